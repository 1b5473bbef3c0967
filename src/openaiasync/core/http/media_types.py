"""What bytes are, told by how they begin: the media types of images and sound that the API takes.

The marks are those of the formats themselves (RIFF, PNG, JFIF, GIF89a, ID3, Ogg, EBML, ISO BMFF, ADTS), as the WHATWG
MIME sniffing standard lists them; names and declared types are not asked.
"""

from __future__ import annotations

__all__ = ["SNIFFED", "audio_type", "extension", "image_type", "media_type_of"]

SNIFFED = 64  # bytes from a file's beginning that are enough to tell

_EXTENSIONS = {
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/mpga": "mp3",
    "audio/ogg": "ogg",
    "audio/opus": "ogg",
    "audio/pcm": "pcm",
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/webm": "webm",
    "audio/x-wav": "wav",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
}


def image_type(data: bytes) -> str | None:
    """The media type of a PNG, JPEG, GIF, WebP or BMP image; `None` for anything else."""
    head = bytes(data[:SNIFFED])
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:14] == b"WEBPVP":
        return "image/webp"
    # "BM" alone begins many a text: the header's reserved bytes are zero and its size is one of those in use.
    if head.startswith(b"BM") and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "image/bmp"
    return None


_BMP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))


def audio_type(data: bytes) -> str | None:
    """The media type of WAV, MP3, FLAC, Ogg, WebM, MP4 or AAC sound; `None` for anything else (raw PCM has no mark)."""
    head = bytes(data[:SNIFFED])
    if head.startswith((b"RIFF", b"RF64")) and head[8:12] == b"WAVE":
        return "audio/wav"
    if head.startswith(b"fLaC"):
        return "audio/flac"
    if head.startswith(b"OggS"):
        return "audio/ogg"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "audio/webm"
    if head[4:8] == b"ftyp":  # the same box begins images (AVIF, HEIC), told by their brand
        return None if head[8:12] in _IMAGE_BRANDS else "audio/mp4"
    if head.startswith(b"ID3"):
        return "audio/mpeg"
    if len(head) >= 4 and head[0] == 0xFF:
        if head[1] & 0xF6 == 0xF0:  # ADTS: twelve bits of sync, layer 0
            return "audio/aac"
        # MPEG audio: eleven bits of sync, then values that the standard reserves rule a frame out.
        if head[1] & 0xE6 in (0xE2, 0xE4, 0xE6) and head[1] & 0x18 != 0x08 and head[2] & 0xF0 != 0xF0:
            return "audio/mpeg"
    return None


_IMAGE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1"})


def media_type_of(data: bytes) -> str | None:
    """The media type of an image or a sound by its first bytes; `None` for anything else."""
    return image_type(data) or audio_type(data)


def extension(media_type: str) -> str | None:
    """The usual ending of file names of this type, without its dot; `None` for a type that is none of the above."""
    return _EXTENSIONS.get(media_type.partition(";")[0].strip().lower())
