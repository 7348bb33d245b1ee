# Filled as the installed package grows; see docs/embedding.md.
