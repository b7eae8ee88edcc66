"""What is wrong with a folder of images and masks, before anything is trained on it: `examine.examine`."""
