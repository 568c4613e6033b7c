// JPEG files to quantised DCT coefficients: no inverse DCT, no pixels. No Python here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

namespace freqops::jpeg {

constexpr int kBlock = 64;

// Scans after which a file is refused. Encoders write 1 to 12; each scan of a few bytes can make
// the decoder pass over the whole picture, which is what a progressive bomb lives on.
// libjpeg-turbo's own fuzzers stop here too.
constexpr int kMaxScans = 500;

// Above so many, a file is also refused once its scans have passed over so many blocks: about a
// second's work.
constexpr int kManyScans = 32;
constexpr int64_t kMaxPasses = int64_t{1} << 26;

enum class Outcome {
  kRead,
  kBroken,       // the bytes are no JPEG file, or nothing can be decoded, or a limit is exceeded
  kDamaged,      // a damaged file, of which Options::tolerant may take what is there
  kUnsupported,  // a sound file of a kind that is not read
  kNoMemory,
};

struct Options {
  bool tolerant = false;    // a damaged file: what is there, and zeros
  bool dequantize = false;  // values times the quantisation table, saturated
  uint64_t max_pixels = 0;  // width * height as the header has it; 0 = no limit
};

struct Free {
  void operator()(int16_t* memory) const { std::free(memory); }
};

// values[(row * stride + column) * 64 + v * 8 + u]; padded to whole MCUs in both directions.
struct Plane {
  std::unique_ptr<int16_t[], Free> values;
  int64_t rows = 0;     // blocks that hold pixels of the picture
  int64_t columns = 0;  // likewise
  int64_t stride = 0;   // blocks in a row of the memory
  uint16_t table[kBlock] = {};
};

struct Picture {
  int components = 0;  // 1 or 3
  Plane planes[3];
  const char* subsampling = nullptr;
  int height = 0;
  int width = 0;
  int orientation = 1;  // EXIF: 1 ... 8
  bool progressive = false;
  std::string damage;  // what was tolerated; empty for a sound file
};

// Decodes data into picture. Otherwise `reason` says in words what is wrong.
Outcome read(const uint8_t* data, size_t size, const Options& options, Picture* picture,
             std::string* reason);

}  // namespace freqops::jpeg
