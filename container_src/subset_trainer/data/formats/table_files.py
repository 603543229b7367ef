"""A channel's tables, in whichever format they are."""

from subset_trainer.data.channels import Channel, Layout
from subset_trainer.data.formats.csv_tables import Table, read_csv
from subset_trainer.data.formats.libsvm import read_libsvm
from subset_trainer.data.formats.parquet import read_parquet
from subset_trainer.data.formats.recordio_protobuf import read_protobuf
from subset_trainer.data.kinds.preprocessing import Preprocessing


def read_table(
    channel: Channel,
    layout: Layout,
    label_column: str | None = None,
    csv_header: str = "auto",
    like: Preprocessing | None = None,
    memory: int | None = None,
) -> Table:
    """Read files of one of channels.TABLE_FORMATS, as that format's reader does. UserError as it says."""
    if layout.format == "csv":
        return read_csv(channel, layout.files, label_column, csv_header, like, memory)
    if layout.format == "parquet":
        return read_parquet(channel, layout.files, label_column, like, memory)
    if layout.format == "libsvm":
        return read_libsvm(channel, layout.files, like, memory)
    return read_protobuf(channel, layout.files, like, memory)
