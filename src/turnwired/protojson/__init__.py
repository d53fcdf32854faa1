"""Messages to and from JSON as Go's protojson does it, by descriptors alone: Python's json_format does it otherwise.

It knows neither HTTP nor calls; what it refuses is a ValueError. Source: contracts/gateway.md, sections 4, 5 and 11.
"""
