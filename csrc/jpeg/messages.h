#pragma once

#include <cstddef>
#include <cstdio>

// After <cstdio>, which it needs.
#include <jpeglib.h>

namespace freqops::jpeg {

// The error or warning that libjpeg set last: its own words, and in brackets what they mean to who
// has the file.
void describe(const jpeg_error_mgr& errors, char* text, size_t size);

}  // namespace freqops::jpeg
