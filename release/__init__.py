"""What is released, tried as users get it: built, installed without the checkout, at work, un-installed."""
