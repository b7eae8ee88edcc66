"""The datasets: each opens its files and lists."""
