"""The methods of the core by the rules of all methods."""

from __future__ import annotations

from vlmprompt.testing import check_method

test_zeroshot = check_method("zeroshot")
test_descriptions = check_method("descriptions")
test_linear_probe = check_method("linear_probe")
test_coop = check_method("coop")
test_coop_of_each_class = check_method("coop", class_specific=True)
