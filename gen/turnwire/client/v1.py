"""Every message, enum and service stub of the API's version 1, by its proto name."""

from ._gen.turnwire.v1 import *
from ._gen.turnwire.v1 import __all__ as __all__
