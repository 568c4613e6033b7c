// Three neighbouring block rows of planes, for the smoothing of chroma across blocks: 89 rows, in
// float32 356 bytes for each pixel of the picture's width.
#pragma once

#include <cstdlib>
#include <new>

#include "simd.h"
#include "tile.h"

namespace freqops::cpu {
namespace {

// The tile of one block row that starts at column bx.
template <class acc>
FREQOPS_INLINE Tile strip_tile(int64_t n, int64_t by, int64_t bx, int64_t grid_w) {
  return {n, by * grid_w + bx, by, bx, int(smaller(kLanes<acc>, grid_w - bx))};
}

template <class acc>
class Strips {
 public:
  // Of a row: whole tiles, and a vector more. A multiple of 2 KiB would put all rows of a column
  // into the same few sets of the first-level cache.
  const int64_t pitch;

  explicit Strips(int64_t grid_w)
      : pitch((grid_w + kLanes<acc> - 1) / kLanes<acc> * kLanes<acc> * kBlock + kLanes<acc>),
        width_(grid_w * kBlock),
        planes_(allocate(kSlots * kComponents * kBlock * pitch)),
        smoothed_(allocate((kComponents - 1) * kBlock * pitch)),
        row_(allocate(pitch + 2)) {}
  ~Strips() {
    std::free(planes_);
    std::free(smoothed_);
    std::free(row_);
  }
  Strips(const Strips&) = delete;
  Strips& operator=(const Strips&) = delete;

  // True where the strip is not here yet: the caller then fills its planes.
  bool claim(int64_t strip) {
    int64_t& owner = owner_[strip % kSlots];
    if (owner == strip) return false;
    owner = strip;
    return true;
  }

  acc* plane(int64_t strip, int component, int64_t bx) const {
    return planes_ + ((strip % kSlots) * kComponents + component) * kBlock * pitch + bx * kBlock;
  }
  acc* smoothed(int component, int64_t bx) const {
    return smoothed_ + (component - 1) * kBlock * pitch + bx * kBlock;
  }

  // [1 6 1] / 8 in both directions of Cb and Cr of `strip`; at the picture's edges above == strip
  // or below == strip, and the edge pixel is its own neighbour.
  void smooth(int64_t above, int64_t strip, int64_t below) {
    for (int k = 1; k < kComponents; ++k) {
      const acc* plane_at = plane(strip, k, 0);
      for (int y = 0; y < kBlock; ++y) {
        const acc* here = plane_at + y * pitch;
        const acc* up = y > 0           ? here - pitch
                        : above < strip ? plane(above, k, 0) + (kBlock - 1) * pitch
                                        : here;
        const acc* down = y + 1 < kBlock ? here + pitch : below > strip ? plane(below, k, 0) : here;
        for (int64_t x = 0; x < width_; ++x) row_[x + 1] = up[x] + down[x] + 6 * here[x];
        row_[0] = row_[1];
        row_[width_ + 1] = row_[width_];
        acc* out = smoothed(k, 0) + y * pitch;
        for (int64_t x = 0; x < width_; ++x)
          out[x] = (row_[x] + row_[x + 2] + 6 * row_[x + 1]) * acc(1. / 64);
      }
    }
  }

 private:
  static constexpr int kSlots = 3;

  static acc* allocate(int64_t count) {
    void* p = std::calloc(size_t(count), sizeof(acc));
    if (!p) throw std::bad_alloc();
    return static_cast<acc*>(p);
  }

  const int64_t width_;
  acc *planes_, *smoothed_, *row_;
  int64_t owner_[kSlots] = {-1, -1, -1};
};

}  // namespace
}  // namespace freqops::cpu
