#pragma once

#include <cstddef>
#include <cstdint>

namespace freqops::jpeg {

// The orientation, 1 ... 8, in the content of an APP1 segment; 0 where it is not EXIF or has no
// valid one.
int exif_orientation(const uint8_t* data, size_t size);

}  // namespace freqops::jpeg
