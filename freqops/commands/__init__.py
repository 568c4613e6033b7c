"""The commands of the shell, one a module: ``add`` puts a command under the parser."""
