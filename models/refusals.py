"""Why a model package is refused: one class for each reason, so that each can be told apart.

A message says what is wrong, in which file, and how to mend it. `check` names the step of
`models.package.verify` that found it.
"""


class PackageRefused(ValueError):
    """A model package must not be used."""

    check = "archive"


# --- the archive ----------------------------------------------------------------------------


class NotAnArchive(PackageRefused):
    """The file is no zip archive at all."""


class ArchiveTruncated(PackageRefused):
    """The archive ends too early."""


class TrailingData(PackageRefused):
    """Something follows the end of the archive, or a comment is hidden in it."""


class HeadersDisagree(PackageRefused):
    """The archive says one thing in one place and another in another."""


class TooLarge(PackageRefused):
    """A file, or all together, is larger than a gateway takes."""


class TooManyFiles(PackageRefused):
    """The archive holds more files than any package has."""


class UnsafeName(PackageRefused):
    """A name would lead out of the folder, or could mean something else on another system."""


class DuplicateName(PackageRefused):
    """Two files have the same name, or names that differ by case only."""


class SpecialFile(PackageRefused):
    """An entry is a link, a device or something else that is no plain file."""


class EncryptedFile(PackageRefused):
    """A file is encrypted, so nobody can look at it."""


class CompressedFile(PackageRefused):
    """A file is compressed: what it would become is unknown until it is inflated."""


class FileDamaged(PackageRefused):
    """The bytes of a file are not those that were put into the archive."""


# --- who signed what ------------------------------------------------------------------------


class SumsUnreadable(PackageRefused):
    """`SHA256SUMS` is missing or no list of checksums."""

    check = "signature"


class SignatureMissing(PackageRefused):
    """The package is not signed."""

    check = "signature"


class SignatureBad(PackageRefused):
    """The signature is not one of this content."""

    check = "signature"


class SignerUnknown(PackageRefused):
    """The signature is sound, but its signer is not on the site's list."""

    check = "signature"


class FileMissing(PackageRefused):
    """A file that belongs to the model is not in the package."""

    check = "files"


class FileUnexpected(PackageRefused):
    """The package holds a file that the model does not name."""

    check = "files"


class FileAltered(PackageRefused):
    """A file is not the one that was signed."""

    check = "files"


# --- the model ------------------------------------------------------------------------------


class ManifestRefused(PackageRefused):
    """The manifest can't be used; every key that is wrong is named."""

    check = "manifest"


class OutsideValidity(PackageRefused):
    """The model may not be used on this day."""

    check = "validity"


class PickleFound(PackageRefused):
    """A file is a pickle, or a container of one: reading it would run whatever it says."""

    check = "contents"


class NotText(PackageRefused):
    """A file that people or parsers read is not UTF-8 text."""

    check = "contents"


class GateNotPassed(PackageRefused):
    """Nothing shows that the quantized network is still the model."""

    check = "evaluation"


class GateTooWide(PackageRefused):
    """The manifest allows a greater loss or difference than anybody's may, or than the site's."""

    check = "evaluation"


class NetworkUnreadable(PackageRefused):
    """The weights are no valid network of the format that the manifest names."""

    check = "network"


class ExternalData(PackageRefused):
    """The network wants to read a further file."""

    check = "network"


class OperatorNotAllowed(PackageRefused):
    """The network calls code that the runtime does not bring and the site does not allow."""

    check = "network"


class NestedTooDeep(PackageRefused):
    """The network nests loops and branches deeper than a gateway takes."""

    check = "network"


class NetworkNotAsDeclared(PackageRefused):
    """The network's inputs or outputs are not those of the manifest."""

    check = "network"


class FormatNotAsDeclared(PackageRefused):
    """A network that is said to be float32 is quantized, so that no gate would judge it."""

    check = "network"
