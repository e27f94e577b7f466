"""Our models in other frameworks' clothes: one folder or module per framework, which nothing else here imports."""
