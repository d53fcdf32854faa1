"""The HAPI web client's hub. Source: contracts/hapi.md."""
