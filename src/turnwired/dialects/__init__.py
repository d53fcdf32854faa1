"""The surfaces of five products, each a package of its own. Source: contracts/*.md."""
