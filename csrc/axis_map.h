// One axis of jpeg_gather: how blocks of a component become blocks of the result.
//
// Both axes are linear maps of coefficients, so that a component with blocks X becomes P X Q^T. Of
// an axis whose component is subsampled f times, at a scale of k/8, P is
//
//   synthesis   each block to q pixels: the inverse DCT of length q of its first min(8, q)
//               coefficients, times sqrt(q / 8). q is k, doubled as long as it is less than 8 and
//               divides f k: as jdmaster.c of libjpeg-turbo has it, there for both axes at once
//   replicas    each pixel f k / q times; beyond luma's last one, that one again
//   analysis    8 pixels at a time to coefficients
//
// and further scales are maps of their own behind it. A block of the result comes from a few
// neighbouring blocks, and P repeats itself with a short period: each distinct row of blocks is
// kept once.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "math/dct8.h"

namespace freqops {

constexpr int kMaxScale = 2 * kBlock;  // eighths
constexpr double kPi = 3.14159265358979323846;

using BlockMatrix = std::array<double, kBlock * kBlock>;  // [v, u]: from coefficient u to v

// Blocks after scaling by k/8.
inline int64_t scaled(int64_t blocks, int64_t k) { return (blocks * k + kBlock - 1) / kBlock; }

// D[v, i] = a_v cos((2 i + 1) v pi / (2 n)), the orthonormal DCT of each length n up to kMaxScale, its
// first kBlock frequencies.
struct Cosines {
  double of_length[kMaxScale + 1][kMaxScale][kBlock] = {};  // [n][i][v]

  Cosines() {
    for (int n = 1; n <= kMaxScale; ++n)
      for (int i = 0; i < n; ++i)
        for (int v = 0; v < std::min(n, kBlock); ++v)
          of_length[n][i][v] =
              std::sqrt((v == 0 ? 1.0 : 2.0) / n) * std::cos((2 * i + 1) * v * kPi / (2 * n));
  }
};

inline const Cosines& cosines() {
  static const Cosines table;
  return table;
}

// A block of the result, as a sum over blocks first ... first + matrices.size() - 1 of the
// component.
struct BlockSum {
  int64_t first;
  std::vector<BlockMatrix> matrices;
};

// One scale, as in the first comment.
class Scaling {
 public:
  Scaling(int64_t blocks, int factor, int k) : blocks_(blocks), k_(k), q_(k) {
    while (q_ < kBlock && 2 * q_ <= factor * k) q_ *= 2;
    pixels_ = factor * k;
    replicas_ = pixels_ / q_;
    used_ = std::min(q_, kBlock);
    for (int i = 0; i < q_; ++i)
      for (int u = 0; u < used_; ++u)
        synthesis_[i][u] = cosines().of_length[q_][i][u] * std::sqrt(q_ / double(kBlock));
  }

  int used() const { return used_; }  // coefficients that are read

  // After so many blocks of the result, and the blocks that they come from, the map repeats itself.
  int64_t period() const { return pixels_ / gcd(pixels_, kBlock); }
  int64_t sources_of_period() const { return kBlock / gcd(pixels_, kBlock); }
  // Whether block d ends beyond the last pixel.
  bool beyond(int64_t d) const { return kBlock * (d + 1) > blocks_ * k_; }
  int64_t last_source(int64_t d) const { return pixel(kBlock * d + kBlock - 1) / pixels_; }

  BlockSum block(int64_t d) const {
    const int64_t first = pixel(kBlock * d) / pixels_, last = last_source(d);
    BlockSum sum{first, std::vector<BlockMatrix>(size_t(last - first + 1), BlockMatrix{})};
    const auto& analysis = cosines().of_length[kBlock];
    for (int j = 0; j < kBlock; ++j) {
      const int64_t pixel = this->pixel(kBlock * d + j);
      BlockMatrix& m = sum.matrices[size_t(pixel / pixels_ - first)];
      const double* row = synthesis_[pixel % pixels_ / replicas_];
      for (int v = 0; v < kBlock; ++v)
        for (int u = 0; u < used_; ++u) m[size_t(v * kBlock + u)] += analysis[j][v] * row[u];
    }
    return sum;
  }

 private:
  int64_t pixel(int64_t i) const { return std::min(i, blocks_ * k_ - 1); }
  static int64_t gcd(int64_t a, int64_t b) { return b == 0 ? a : gcd(b, a % b); }

  int64_t blocks_;
  int k_, q_, replicas_, used_;
  int64_t pixels_;  // of the result to a block of the component
  double synthesis_[kMaxScale][kBlock] = {};
};

// sum of `outer`, of blocks each of which is itself a sum.
template <class Inner>
BlockSum composed(const BlockSum& outer, const Inner& inner) {
  std::vector<BlockSum> parts;
  int64_t first = INT64_MAX, end = 0;
  for (size_t s = 0; s < outer.matrices.size(); ++s) {
    parts.push_back(inner(outer.first + int64_t(s)));
    first = std::min(first, parts.back().first);
    end = std::max(end, parts.back().first + int64_t(parts.back().matrices.size()));
  }
  BlockSum sum{first, std::vector<BlockMatrix>(size_t(end - first), BlockMatrix{})};
  for (size_t s = 0; s < parts.size(); ++s) {
    const BlockMatrix& a = outer.matrices[s];
    for (size_t t = 0; t < parts[s].matrices.size(); ++t) {
      const BlockMatrix& b = parts[s].matrices[t];
      BlockMatrix& m = sum.matrices[size_t(parts[s].first - first) + t];
      for (int v = 0; v < kBlock; ++v)
        for (int w = 0; w < kBlock; ++w)
          for (int u = 0; u < kBlock; ++u)
            m[size_t(v * kBlock + u)] += a[size_t(v * kBlock + w)] * b[size_t(w * kBlock + u)];
    }
  }
  return sum;
}

// What is asked of an axis of a component.
struct AxisRequest {
  int64_t blocks;  // of luma
  int factor;      // 1, 2 or 4 times as many pixels of luma as of the component
  const int64_t* scales;
  int scale_count;       // at least 1
  int64_t begin, count;  // blocks of the scaled grid that are wanted
  bool mirrored;         // in the other order, odd frequencies with the other sign
};

// The map of an axis, in the order of the result.
struct AxisMap {
  struct Block {
    int64_t first;   // block of the component
    int32_t count;   // blocks that are summed, from first on
    int32_t matrix;  // the first one's, the others' behind it
  };
  bool identity;  // block i of the result is block begin + i of the component
  int used;       // coefficients of a block that are read: u < used
  std::vector<Block> blocks;
  std::vector<float> matrices;  // [matrix, u, v]: a row to each coefficient that is read
};

// A map as kernels read it.
struct AxisView {
  bool identity;
  int used;
  const AxisMap::Block* blocks;
  const float* matrices;

  AxisView() = default;
  explicit AxisView(const AxisMap& map)
      : identity(map.identity),
        used(map.used),
        blocks(map.blocks.data()),
        matrices(map.matrices.data()) {}
};

inline AxisMap axis_map(const AxisRequest& r) {
  AxisMap map{};
  map.blocks.reserve(size_t(r.count));
  map.identity =
      r.factor == 1 && !r.mirrored &&
      std::all_of(r.scales, r.scales + r.scale_count, [](int64_t k) { return k == kBlock; });
  if (map.identity) {
    map.used = kBlock;
    for (int64_t i = 0; i < r.count; ++i) map.blocks.push_back({r.begin + i, 1, 0});
    for (int u = 0; u < kBlock; ++u)
      for (int v = 0; v < kBlock; ++v) map.matrices.push_back(u == v ? 1.0f : 0.0f);
    return map;
  }

  std::vector<Scaling> scalings;
  int64_t blocks = r.blocks;
  for (int i = 0; i < r.scale_count; ++i) {
    const int k = int(r.scales[i]);
    scalings.emplace_back(blocks, i == 0 ? r.factor : 1, k);
    blocks = scaled(blocks, k);
  }
  map.used = scalings[0].used();

  // Whether block d, or one that it comes from, has pixels beyond the last.
  const auto beyond = [&](int64_t d) {
    for (size_t i = scalings.size(); i-- > 0; d = scalings[i].last_source(d))
      if (scalings[i].beyond(d)) return true;
    return false;
  };
  // The period of the whole: as many blocks as make a whole number of periods of each scaling. One
  // longer than what is wanted is of no use, however long it is.
  int64_t period = scalings.back().period(), shift = scalings.back().sources_of_period();
  for (size_t i = scalings.size() - 1; period <= r.count && i-- > 0;) {
    const int64_t inner = scalings[i].period();
    int64_t times = 1;
    while (times * shift % inner != 0) ++times;
    period *= times;
    shift = times * shift / inner * scalings[i].sources_of_period();
  }
  struct Kept {
    int64_t d = -1, first = 0;
    int32_t count = 0, matrix = 0;
  };
  std::vector<Kept> kept(size_t(period <= r.count ? period : 0));

  for (int64_t i = 0; i < r.count; ++i) {
    const int64_t d = r.begin + (r.mirrored ? r.count - 1 - i : i);
    const bool edge = beyond(d);
    Kept* known = kept.empty() || edge ? nullptr : &kept[size_t(d % period)];
    if (known != nullptr && known->d >= 0) {
      map.blocks.push_back(
          {known->first + (d - known->d) / period * shift, known->count, known->matrix});
      continue;
    }
    BlockSum sum = scalings.back().block(d);
    for (size_t level = scalings.size() - 1; level-- > 0;)
      sum = composed(sum, [&](int64_t s) { return scalings[level].block(s); });
    const AxisMap::Block block{sum.first, int32_t(sum.matrices.size()),
                               int32_t(map.matrices.size() / kCoefficients)};
    for (const BlockMatrix& m : sum.matrices)
      for (int u = 0; u < kBlock; ++u)
        for (int v = 0; v < kBlock; ++v)
          map.matrices.push_back(float(m[size_t(v * kBlock + u)]) *
                                 (r.mirrored && v % 2 == 1 ? -1.0f : 1.0f));
    map.blocks.push_back(block);
    if (known != nullptr) *known = {d, block.first, block.count, block.matrix};
  }
  return map;
}

}  // namespace freqops
