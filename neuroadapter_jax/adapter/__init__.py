"""From cortical responses to what a frozen U-Net attends to: the modules that train."""
