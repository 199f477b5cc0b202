"""Where a trained run looks: pictures, and a file that says what is on them."""
