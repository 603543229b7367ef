"""A channel → labelled examples as they lie there, in whichever of the known formats."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from subset_trainer.data.channels import TABLE_FORMATS, Channel, Format, Layout
from subset_trainer.data.formats import tar_shards
from subset_trainer.data.formats.cifar import Batches, read_cifar
from subset_trainer.data.formats.content_types import understand
from subset_trainer.data.formats.csv_tables import Table
from subset_trainer.data.formats.labels_csv import read_labels_csv, read_lst
from subset_trainer.data.formats.manifest import ManifestOptions, read_manifest
from subset_trainer.data.formats.npz import ImageArray, read_npz
from subset_trainer.data.formats.pipe import read_pipe
from subset_trainer.data.formats.recordio_images import read_image_records
from subset_trainer.data.formats.table_files import read_table
from subset_trainer.data.formats.text_folders import (
    read_text_folders,
    read_text_manifest,
    text_column,
    texts_of,
)
from subset_trainer.data.images.decoding import ImageFiles
from subset_trainer.data.images.labelled import LabelledImages, coded
from subset_trainer.data.kinds.preprocessing import Preprocessing
from subset_trainer.data.texts.ngrams import Texts

Source = LabelledImages | ImageArray | Table | Texts


_KINDS = {"image": "images", "table": "a table", "text": "texts"}


@dataclass(frozen=True)
class Options:
    """What the user says of how labels are to be read.

    label_column: a column's name or 0-based position, or a manifest's attribute; None: found. csv_header: auto, true or
    false. content_types: channel's name → what the platform says of its files.
    text_column: a table's column whose texts are classified; None: found.
    """

    label_column: str | None = None
    csv_header: str = "auto"
    manifest: ManifestOptions = field(default_factory=ManifestOptions)
    content_types: Mapping[str, str] = field(default_factory=dict)
    text_column: str | None = None


@dataclass(frozen=True)
class Found:
    """A channel's examples, the test examples that a CIFAR set brings with it, what is worth logging about them, and
    the files' format."""

    source: Source
    test: ImageArray | None
    notes: tuple[str, ...]
    format: Format


def read(channel: Channel, options: Options, memory: int, like: Preprocessing | None = None) -> Found:
    """Read the channel.

    like: what the training channel taught; then what is found must be of its kind, and of a CIFAR set the test batch is
    meant. memory: bytes that a file may unpack to. UserError for everything that is wrong with the data.
    """
    told = understand(channel, options.content_types.get(channel.name))
    layout = told.layout(channel)
    test: ImageArray | None = None
    notes: tuple[str, ...] = ()
    source: Source
    if layout.unused:
        more = f" and {len(layout.unused) - 1:,} more" if len(layout.unused) > 1 else ""
        notes = (f"{channel.name} channel: not used: '{layout.unused[0]}'{more}.",)
    images_in_parquet = layout.format == "parquet" and _holds_images(channel, layout.files[0])
    if layout.format in TABLE_FORMATS and not images_in_parquet:
        if like is not None and like.kind == "image":
            raise channel.error(f"holds tables ('{layout.files[0]}'); expected images, as in training.")
        header = told.header or options.csv_header
        if like is not None and like.kind == "text":
            # Of a table's other columns nothing was learned.
            source = read_table(channel, layout, like.label_column, header, None, memory)
            column = like.text_column or text_column(source)
        else:
            source = read_table(channel, layout, options.label_column, header, like, memory)
            column = None if like is not None else options.text_column or text_column(source)
        if column is not None:
            source = texts_of(channel, source, column)
        notes += source.notes
        if like is None and isinstance(source, Table):
            notes += (
                f"{channel.name} channel: {len(source):,} rows of {len(source.columns):,} features and "
                f"{'a label' if source.label_column is None else f'the label {source.label_column!r}'}, "
                f"{'with' if source.header else 'without'} a header, {len(source.classes)} classes.",
            )
    elif layout.format == "npz":
        source = read_npz(channel, layout.files, memory)
        notes += (
            f"{channel.name} channel: {len(source):,} examples from arrays, read as {kind(source)}, "
            f"{len(source.classes)} classes.",
        )
    elif layout.format == "cifar" or (
        layout.format == "archives"
        and all(tar_shards.holds(channel, file) != "images" for file in layout.files)
    ):
        source, test = _cifar(channel, layout, memory, like is not None)
        notes += (f"{channel.name} channel: CIFAR-{len(source.classes)}, {len(source):,} images.",)
    elif layout.format == "texts":
        source = read_text_folders(channel, layout.files, layout.folder, memory)
        notes += source.notes
    elif layout.format == "manifest" and not layout.images and not options.manifest.from_s3:
        source = read_text_manifest(channel, layout.files, options.label_column, options.manifest)
        notes += source.notes
    else:
        source = _images(channel, layout, options)
        notes += source.notes
    if like is not None and kind(source) != _KINDS[like.kind]:
        expected = _KINDS[like.kind]
        raise channel.error(f"'{layout.files[0]}' holds {kind(source)}; expected {expected}, as in training.")
    return Found(source, test, notes, layout.format)


def kind(source: Source) -> str:
    if isinstance(source, Texts):
        return _KINDS["text"]
    return _KINDS["table"] if isinstance(source, Table) else _KINDS["image"]


def _images(channel: Channel, layout: Layout, options: Options) -> LabelledImages:
    if layout.format == "pipe":
        return read_pipe(channel.name, channel.root / layout.files[0], options.label_column, options.manifest)
    if layout.format == "manifest":
        return read_manifest(channel, layout.files, layout.images, options.label_column, options.manifest)
    if layout.format == "listing":
        return read_labels_csv(channel, layout.files[0], layout.images, options.label_column)
    if layout.format == "lst":
        return read_lst(channel, channel.listing or channel, layout.files[0], layout.images)
    if layout.format == "archives":
        return tar_shards.read_shards(channel, layout.files)
    if layout.format == "records":
        return read_image_records(channel, layout.files)
    if layout.format == "parquet":
        from subset_trainer.data.formats.parquet_images import read_parquet_images

        return read_parquet_images(channel, layout.files, options.label_column)
    return _folders(channel, layout.files, layout.folder)


def _holds_images(channel: Channel, file: str) -> bool:
    # pyarrow takes a quarter of a second to import, which others need not wait for.
    from subset_trainer.data.formats.parquet_images import image_column

    return image_column(channel, file) is not None


def _folders(channel: Channel, files: tuple[str, ...], folder: str) -> LabelledImages:
    labels, classes = coded([file[len(folder) :].split("/", 1)[0] for file in files])
    below = f" below '{folder}'" if folder else ""
    note = f"{channel.name} channel: {len(files):,} images in {len(classes)} class folders{below}."
    return LabelledImages(ImageFiles(files, channel.root, channel.name), labels, classes, (note,))


def _cifar(
    channel: Channel, layout: Layout, memory: int, for_evaluation: bool
) -> tuple[ImageArray, ImageArray | None]:
    cifar = read_cifar(channel, layout.files, memory)
    train, test = cifar.train, cifar.test
    if for_evaluation or train is None:
        # A whole set given for evaluation means its test batch, since the rest is trained on.
        train, test = test or train, None
    assert train is not None
    return _array(train), None if test is None else _array(test)


def _array(batches: Batches) -> ImageArray:
    return ImageArray(batches.pixels, batches.labels, batches.names, batches.ids)
