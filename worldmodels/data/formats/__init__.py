"""Other people's formats: HDF5, parquet and Minari, found by what lies in the file or folder."""

from worldmodels.data.formats.convert import Report, convert, open_source, verify
from worldmodels.data.formats.source import Reading, Source

__all__ = ["Reading", "Report", "Source", "convert", "open_source", "verify"]
