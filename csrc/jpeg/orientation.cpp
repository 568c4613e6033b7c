// EXIF 2.3: "Exif\0\0", then a TIFF file: byte order, 42, offset of the first directory; that is a
// count and entries of 12 bytes: tag, type, number of values, value.
#include "orientation.h"

#include <cstring>

namespace freqops::jpeg {
namespace {

constexpr size_t kPrefix = 6;
constexpr size_t kHeader = 8;
constexpr size_t kEntry = 12;
constexpr uint32_t kOrientation = 0x0112;
constexpr uint32_t kShort = 3;

struct Reader {
  const uint8_t* data;
  bool big_endian;

  uint32_t two(size_t at) const {
    return big_endian ? data[at] << 8 | data[at + 1] : data[at + 1] << 8 | data[at];
  }
  uint32_t four(size_t at) const {
    return big_endian ? two(at) << 16 | two(at + 2) : two(at + 2) << 16 | two(at);
  }
};

}  // namespace

int exif_orientation(const uint8_t* data, size_t size) {
  if (size < kPrefix + kHeader || std::memcmp(data, "Exif\0\0", kPrefix) != 0) return 0;
  data += kPrefix;
  size -= kPrefix;
  const bool big_endian = std::memcmp(data, "MM", 2) == 0;
  if (!big_endian && std::memcmp(data, "II", 2) != 0) return 0;
  const Reader reader{data, big_endian};
  if (reader.two(2) != 42) return 0;

  const size_t directory = reader.four(4);
  if (directory > size - 2) return 0;  // size >= kHeader
  const size_t entries = reader.two(directory);
  size_t at = directory + 2;
  for (size_t i = 0; i < entries && size - at >= kEntry; ++i, at += kEntry) {
    if (reader.two(at) != kOrientation) continue;
    if (reader.two(at + 2) != kShort || reader.four(at + 4) != 1) return 0;
    const uint32_t value = reader.two(at + 8);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 0;
  }
  return 0;
}

}  // namespace freqops::jpeg
