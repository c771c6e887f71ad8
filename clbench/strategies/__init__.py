"""The shipped strategies, one file each; ``conf/strategy`` names them."""
