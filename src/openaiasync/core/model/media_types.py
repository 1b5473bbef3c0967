"""Recognises the media types of images and audio that the API accepts, by their first bytes.

The signatures are those of the formats (RIFF, PNG, JFIF, GIF89a, ID3, Ogg, EBML, ISO BMFF, ADTS), as the WHATWG MIME
sniffing standard lists them; file names and declared types are not used.
"""

from __future__ import annotations

__all__ = ["SNIFFED", "audio_type", "extension", "image_type", "media_type_of"]

SNIFFED = 64  # first bytes of a file that are enough

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
    """Return the media type of a PNG, JPEG, GIF, WebP or BMP image; `None` for anything else."""
    head = bytes(data[:SNIFFED])
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:14] == b"WEBPVP":
        return "image/webp"
    # "BM" also begins texts: the reserved bytes of a header are zero, and its size is one of a few.
    if head.startswith(b"BM") and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "image/bmp"
    return None


_BMP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))


def audio_type(data: bytes) -> str | None:
    """Return the type of WAV, MP3, FLAC, Ogg, WebM, MP4 or AAC audio; `None` for others (raw PCM has no signature)."""
    head = bytes(data[:SNIFFED])
    if head.startswith((b"RIFF", b"RF64")) and head[8:12] == b"WAVE":
        return "audio/wav"
    if head.startswith(b"fLaC"):
        return "audio/flac"
    if head.startswith(b"OggS"):
        return "audio/ogg"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "audio/webm"
    if head[4:8] == b"ftyp":  # images (AVIF, HEIC) begin with the same box, with other brands
        return None if head[8:12] in _IMAGE_BRANDS else "audio/mp4"
    if head.startswith(b"ID3"):
        return "audio/mpeg"
    if len(head) >= 4 and head[0] == 0xFF:
        if head[1] & 0xF6 == 0xF0:  # ADTS: twelve bits of sync, layer 0
            return "audio/aac"
        # MPEG audio: eleven bits of sync; values that the standard reserves are not a frame.
        if head[1] & 0xE6 in (0xE2, 0xE4, 0xE6) and head[1] & 0x18 != 0x08 and head[2] & 0xF0 != 0xF0:
            return "audio/mpeg"
    return None


_IMAGE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1"})


def media_type_of(data: bytes) -> str | None:
    """Return the media type of an image or audio; `None` for anything else."""
    return image_type(data) or audio_type(data)


def extension(media_type: str) -> str | None:
    """Return the usual file name extension of a type, without its dot; `None` for an unknown type."""
    return _EXTENSIONS.get(media_type.partition(";")[0].strip().lower())
