#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace freqops::jpeg {

// What bytes look like that do not begin with JPEG's SOI marker; empty where they do.
std::string not_jpeg(const uint8_t* data, size_t size);

}  // namespace freqops::jpeg
