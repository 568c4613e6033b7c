// Sums of pixels over blocks, at the speed of reading them; and zeros.
#include <cstring>
#include <type_traits>

#include "convert.h"
#include "isa.h"
#include "tile.h"

namespace freqops::cpu {
namespace {

// What a column of pixels is summed in down a band: bytes of 257 rows fit into 16 bits.
template <class T>
using Sum = std::conditional_t<std::is_same_v<T, uint8_t>, uint16_t,
                               std::conditional_t<std::is_same_v<T, double>, double, float>>;

// Elements of a row that are summed at a time: whole blocks, of interleaved colours too. Their eight
// rows of sums are 24 KB and stay in the first-level cache.
template <class T>
constexpr int kStrip = 3072 / int(sizeof(Sum<T>));

// sums += a + b, or a alone.
template <bool two, class T>
void add_rows(Sum<T>* __restrict sums, const T* a, const T* b, int count) {
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>) {
    constexpr int N = kLanes<float>;
    for (int i = 0; i < count; i += N) {
      const int n = int(smaller(count - i, N));
      Vec<float> x = n == N ? load<float>(a + i) : load_some<float>(a + i, n);
      if constexpr (two) x += n == N ? load<float>(b + i) : load_some<float>(b + i, n);
      if (n == N)
        store_vector(sums + i, load_vector<Vec<float>>(sums + i) + x);
      else
        store_some<float>(sums + i, load_some<float>(sums + i, n) + x, n);
    }
  } else {
    for (int i = 0; i < count; ++i) {
      if constexpr (two)
        sums[i] = Sum<T>(sums[i] + (Sum<T>(a[i]) + Sum<T>(b[i])));
      else
        sums[i] = Sum<T>(sums[i] + Sum<T>(a[i]));
    }
  }
}

// What the rows of one colour, or of interleaved colours, are made of.
struct Row {
  int64_t stride;  // between elements
  int period;      // of a block's elements
  int64_t blocks, columns;
};

// The rows of a strip, gathered where their elements are not neighbours.
template <class T>
const T* gathered(const T* from, int64_t stride, int count, T* to) {
  if (stride == 1) return from;
  for (int i = 0; i < count; ++i) to[i] = from[i * stride];
  return to;
}

// Adds elements `start` ... `start + count - 1` of a row of sums to those over blocks. out(c, x) is
// place x of colour c, and places 8 and 9 are the first and the last column.
template <class S, class Out>
FREQOPS_INLINE void fold_row(const S* sums, int64_t start, int count, const Row& row,
                             const Out& out) {
  const auto fold = [&](auto period) {
    constexpr int colours = period / kBlock;
    // Sums of bytes over a strip are below 2^24.
    using Total = std::conditional_t<std::is_same_v<S, uint16_t>, int32_t, double>;
    Total total[period] = {};
    int i = 0;
    for (; i + period <= count; i += period)
      for (int k = 0; k < period; ++k) total[k] += Total(sums[i + k]);
    for (int k = 0; i + k < count; ++k) total[k] += Total(sums[i + k]);
    const int64_t end = start + count;
    for (int c = 0; c < colours; ++c) {
      for (int x = 0; x < kBlock; ++x) out(c, x) += double(total[x * colours + c]);
      if (start == 0) out(c, kBlock) += double(sums[c]);
      if (end != row.columns * colours) continue;
      const double last = double(sums[count - colours + c]);
      out(c, kBlock + 1) += last;
      for (int64_t x = row.columns; x < row.blocks * kBlock; ++x) out(c, x % kBlock) += last;
    }
  };
  if (row.period == kBlock)
    fold(std::integral_constant<int, kBlock>());
  else
    fold(std::integral_constant<int, kComponents * kBlock>());
}

// One band of one colour, or of interleaved colours: down the rows first, eight rows of sums for
// the rows of a block, then along them.
template <class T>
void sum_band(const PixelSums& p, const T* picture, int64_t band, int colour, const Row& row,
              double (*out)[kMeanPlaces][kMeanPlaces]) {
  constexpr int kWidth = kStrip<T>;
  alignas(64) Sum<T> sums[kBlock][kWidth];
  T gather[2][kWidth];
  const T* first = picture + colour * p.in.stride_c;
  const int64_t length = p.in.width * (row.period / kBlock);
  const int64_t begin = band * p.band, end = smaller(begin + p.band, p.grid_h);
  const auto at = [&](int64_t by, int y, int64_t start) {
    return first + smaller(by * kBlock + y, p.in.height - 1) * p.in.stride_h + start * row.stride;
  };
  const auto fold = [&](const Sum<T>* from, int y, int64_t start, int count) {
    fold_row(from, start, count, row,
             [&](int c, int64_t x) -> double& { return out[colour + c][y][x]; });
  };
  for (int64_t start = 0; start < length; start += kWidth) {
    const int count = int(smaller(length - start, kWidth));
    for (auto& line : sums) std::memset(line, 0, count * sizeof(Sum<T>));
    for (int64_t by = begin; by < end; by += 2) {
      for (int y = 0; y < kBlock; ++y) {
        const T* a = gathered(at(by, y, start), row.stride, count, gather[0]);
        if (by + 1 < end)
          add_rows<true>(sums[y], a, gathered(at(by + 1, y, start), row.stride, count, gather[1]),
                         count);
        else
          add_rows<false>(sums[y], a, a, count);
      }
    }
    for (int y = 0; y < kBlock; ++y) fold(sums[y], y, start, count);
    if (!p.frame) continue;
    for (int last = 0; last < 2; ++last) {
      if (last ? end < p.grid_h : begin > 0) continue;
      std::memset(sums[0], 0, count * sizeof(Sum<T>));
      const T* edge = at(last ? p.grid_h : 0, 0, start);
      add_rows<false>(sums[0], gathered(edge, row.stride, count, gather[0]), edge, count);
      fold(sums[0], kBlock + last, start, count);
    }
  }
}

template <class T>
void sum_items(const PixelSums& p, int64_t begin, int64_t end) {
  const bool interleaved = p.in.stride_w == kComponents && p.in.stride_c == 1;
  const int planes = interleaved ? 1 : kComponents;
  const Row row{interleaved ? 1 : p.in.stride_w, interleaved ? kComponents * kBlock : kBlock,
                p.grid_w, p.in.width};
  for (int64_t item = begin; item < end; ++item) {
    const T* picture = static_cast<const T*>(p.in.data) + item / p.bands * p.in.stride_n;
    auto* out = p.sums[item];
    std::memset(out, 0, sizeof(*p.sums));
    for (int c = 0; c < planes; ++c) sum_band(p, picture, item % p.bands, c, row, out);
  }
}

void clear_run(char* at, int64_t bytes, bool stream) {
  char* const end = at + bytes;
  const int64_t head = -reinterpret_cast<intptr_t>(at) & (kLine - 1);
  if (stream && head < bytes) {
    std::memset(at, 0, size_t(head));
    for (at += head; at + kLine <= end; at += kLine) store_line_past_caches(at, Line{});
  }
  std::memset(at, 0, size_t(end - at));
}

}  // namespace

void FREQOPS_ISA::pixel_sums(const PixelSums& p, int64_t begin, int64_t end) {
  switch (p.in.type) {
    case Type::kUint8: return sum_items<uint8_t>(p, begin, end);
    case Type::kHalf: return sum_items<Half>(p, begin, end);
    case Type::kBfloat16: return sum_items<BFloat16>(p, begin, end);
    case Type::kFloat: return sum_items<float>(p, begin, end);
    case Type::kDouble: return sum_items<double>(p, begin, end);
  }
}

void FREQOPS_ISA::clear(const Clearing& p) {
  for (int64_t i = 0; i < p.count; ++i)
    if (p.closed[i]) clear_run(p.first + i * p.step, p.bytes, p.stream);
  if (p.stream) order_stores();
}

}  // namespace freqops::cpu
