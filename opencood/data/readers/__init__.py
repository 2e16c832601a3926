"""One file per dataset format; each turns a folder into frames."""
