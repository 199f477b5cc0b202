"""Where a trained run looks: pictures, and a file that says what is on them."""

from vlmprompt.explain.pictures import explain as explain
