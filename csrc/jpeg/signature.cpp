#include "signature.h"

#include <cstdio>
#include <cstring>

namespace freqops::jpeg {
namespace {

struct Signature {
  const char* name;
  size_t offset;
  const char* bytes;
  size_t count;
};

constexpr Signature kSignatures[] = {
    {"a PNG picture", 0, "\x89PNG\r\n\x1a\n", 8},
    {"a GIF picture", 0, "GIF8", 4},
    {"a WebP picture", 8, "WEBP", 4},
    {"a BMP picture", 0, "BM", 2},
    {"a TIFF picture", 0, "II*\0", 4},
    {"a TIFF picture", 0, "MM\0*", 4},
    {"a JPEG 2000 picture", 0, "\0\0\0\x0cjP  ", 8},
    {"a JPEG 2000 picture", 0, "\xff\x4f\xff\x51", 4},
    {"a JPEG XL picture", 0, "\0\0\0\x0cJXL ", 8},
    {"a JPEG XL picture", 0, "\xff\x0a", 2},
    {"a HEIF or AVIF picture, or a film", 4, "ftyp", 4},
    {"a PDF document", 0, "%PDF", 4},
    {"a ZIP archive", 0, "PK\x03\x04", 4},
    {"a gzip file", 0, "\x1f\x8b", 2},
};

bool is_text(const uint8_t* data, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    const uint8_t c = data[i];
    if (c >= 0x7f || (c < 0x20 && c != '\t' && c != '\n' && c != '\r')) return false;
  }
  return true;
}

}  // namespace

std::string not_jpeg(const uint8_t* data, size_t size) {
  if (size == 0) return "it is empty";
  if (size >= 2 && data[0] == 0xff && data[1] == 0xd8) return "";
  for (const Signature& s : kSignatures) {
    if (size >= s.offset + s.count && std::memcmp(data + s.offset, s.bytes, s.count) == 0) {
      return std::string("it looks like ") + s.name;
    }
  }
  constexpr size_t kLooked = 64;
  if (is_text(data, size < kLooked ? size : kLooked)) return "it looks like text";
  char first[32];
  if (size == 1) {
    std::snprintf(first, sizeof(first), "it is the byte %02x alone", data[0]);
  } else {
    std::snprintf(first, sizeof(first), "it begins with %02x %02x", data[0], data[1]);
  }
  return first;
}

}  // namespace freqops::jpeg
