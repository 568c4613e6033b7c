// The JPEG reader under a fuzzer: README.md has the commands. No input may crash it, leak, or make
// it read beyond its end; what it gives must be as large as it says.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "jpeg/read.h"

namespace {

using freqops::jpeg::kBlock;
using freqops::jpeg::Options;
using freqops::jpeg::Outcome;
using freqops::jpeg::Picture;
using freqops::jpeg::Plane;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

int64_t sum(const Picture& picture) {
  int64_t total = 0;
  for (int i = 0; i < picture.components; ++i) {
    const Plane& plane = picture.planes[i];
    for (int64_t row = 0; row < plane.rows; ++row) {
      const int16_t* values = plane.values.get() + row * plane.stride * kBlock;
      for (int64_t k = 0; k < plane.columns * kBlock; ++k) total += values[k];
    }
  }
  return total;
}

Outcome run(const uint8_t* data, size_t size, bool tolerant, bool dequantize, int64_t* total,
            bool* damaged) {
  Options options;
  options.tolerant = tolerant;
  options.dequantize = dequantize;
  options.max_pixels = uint64_t{1} << 16;  // a fuzzer lives on speed
  Picture picture;
  std::string reason;
  const Outcome outcome = freqops::jpeg::read(data, size, options, &picture, &reason);
  if (outcome == Outcome::kRead) {
    require(picture.components == 1 || picture.components == 3, "components");
    require(picture.planes[0].rows == (picture.height + 7) / 8, "rows");
    require(picture.planes[0].columns == (picture.width + 7) / 8, "columns");
    require(picture.orientation >= 1 && picture.orientation <= 8, "orientation");
    *total = sum(picture);
    *damaged = !picture.damage.empty();
  } else {
    require(!reason.empty(), "no reason");
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Without room behind it: what is read beyond its end is found.
  const std::vector<uint8_t> copy(data, data + size);
  int64_t strict = 0, tolerated = 0, multiplied = 0;
  bool damaged = false;
  const Outcome outcome = run(copy.data(), size, false, false, &strict, &damaged);
  require(!damaged, "a sound file is called damaged");
  const Outcome again = run(copy.data(), size, true, false, &tolerated, &damaged);
  if (outcome == Outcome::kRead) {
    require(again == Outcome::kRead && strict == tolerated && !damaged,
            "a sound file, tolerated, differs");
  } else if (again == Outcome::kRead) {
    require(outcome == Outcome::kDamaged && damaged, "damage is tolerated silently");
  }
  run(copy.data(), size, true, true, &multiplied, &damaged);
  return 0;
}

#ifdef FREQOPS_REPLAY
int main(int count, char** paths) {
  for (int i = 1; i < count; ++i) {
    std::FILE* file = std::fopen(paths[i], "rb");
    require(file != nullptr, paths[i]);
    std::vector<uint8_t> bytes;
    for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) bytes.push_back(c);
    std::fclose(file);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%d files\n", count - 1);
}
#endif
