// jpeg_gather: blocks of coefficients, 64 to a block, to planes of the chosen channels.
//
// The result is made a tile at a time, N = kLanes<float> blocks beside each other. Where blocks are
// only chosen, rows of a block are turned to lanes as they are stored, and tiles cross the ends of
// rows of blocks. Else columns are mapped first, those of the blocks that the tile comes from, then
// rows (axis_map.h), and what is wanted is turned then: a vector holds one coefficient of all blocks
// of the tile.
#include <cstdlib>

#include "convert.h"
#include "isa.h"
#include "tile.h"
#include "transpose.h"

namespace freqops::cpu {
namespace {

constexpr int N = kLanes<float>;
using Row = VectorOf<float, kBlock>::type;       // a row of a block
using Stored = VectorOf<int16_t, kBlock>::type;  // as in memory
using Lines = Row[kBlock][N];                    // [v, block]

// Row v of a block times its quantisation steps.
FREQOPS_INLINE Row coefficients(const int16_t* block, const Row (&steps)[kBlock], int v) {
  const Stored row = load_vector<Stored>(block + v * kBlock);
  return __builtin_convertvector(row, Row) * steps[v];
}

// Columns `begin` to `end` of blocks, mapped down: rows 0 ... kept - 1 of [v, column].
template <int kept>
__attribute__((noinline)) void map_down(const GatherComponent& c, const Row (&steps)[kBlock],
                                        const int16_t* picture, const AxisMap::Block& sum,
                                        int64_t begin, int64_t end, int64_t span, Row* out) {
  const AxisView& down = c.down;
  for (int64_t x = begin; x < end; ++x) {
    Row rows[kept] = {};
    for (int i = 0; i < sum.count; ++i) {
      const int16_t* block = picture + (sum.first + i) * c.stride_y + x * c.stride_x;
      const float* matrix = down.matrices + (sum.matrix + i) * int64_t(kCoefficients);
      for (int u = 0; u < down.used; ++u) {
        const Row from = coefficients(block, steps, u);
        for (int v = 0; v < kept; ++v) rows[v] += from * matrix[u * kBlock + v];
      }
    }
    for (int v = 0; v < kept; ++v) out[v * span + x - begin] = rows[v];
  }
}

// One block of the result, mapped across from columns that start at `begin`.
template <int kept>
__attribute__((noinline)) void map_across(const AxisView& across, const AxisMap::Block& sum,
                                          const Row* columns, int64_t begin, int64_t span,
                                          Lines& out, int lane) {
  Row rows[kept] = {};
  for (int i = 0; i < sum.count; ++i) {
    const float* from = reinterpret_cast<const float*>(columns + sum.first + i - begin);
    const float* matrix = across.matrices + (sum.matrix + i) * int64_t(kCoefficients);
    for (int u = 0; u < across.used; ++u) {
      const Row to = load_vector<Row>(matrix + u * kBlock);
      for (int v = 0; v < kept; ++v) rows[v] += to * from[v * span * kBlock + u];
    }
  }
  for (int v = 0; v < kept; ++v) out[v][lane] = rows[v];
}

// Whether blocks of the result are blocks of the component.
FREQOPS_INLINE bool is_chosen(const GatherComponent& c) {
  return c.down.identity && c.across.identity;
}

// Columns of blocks that some of the result come from.
struct Span {
  int64_t begin, end;
};

FREQOPS_INLINE Span span_of(const AxisMap::Block* sums, int count) {
  Span span{sums[0].first, sums[0].first + sums[0].count};
  for (int i = 1; i < count; ++i) {
    span.begin = smaller(span.begin, sums[i].first);
    span.end = -smaller(-span.end, -(sums[i].first + sums[i].count));
  }
  return span;
}

// Room for the mapped columns of any tile. No std::vector: isa.h says why.
struct Scratch {
  Row* rows = nullptr;

  explicit Scratch(const Gather& p) {
    int64_t most = 1;
    for (const GatherComponent& c : p.components) {
      if (c.blocks == nullptr || is_chosen(c)) continue;
      for (int64_t left = 0; left < p.out.width; left += N) {
        const Span span = span_of(c.across.blocks + left, int(smaller(p.out.width - left, N)));
        if (span.end - span.begin > most) most = span.end - span.begin;
      }
    }
    rows = static_cast<Row*>(std::aligned_alloc(kLine, size_t(most) * sizeof(Row) * kBlock));
    if (rows == nullptr) std::abort();
  }
  ~Scratch() { std::free(rows); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

// A component's part of a tile: count blocks from column `left` of row `top` of the result on.
template <int kept>
void map_tile(const GatherComponent& c, const Row (&steps)[kBlock], const int16_t* picture,
              int64_t top, int64_t left, int count, Row* columns, Lines& out) {
  const AxisMap::Block* sums = c.across.blocks + left;
  const Span s = span_of(sums, count);
  const int64_t span = s.end - s.begin;
  map_down<kept>(c, steps, picture, c.down.blocks[top], s.begin, s.end, span, columns);
  for (int i = 0; i < count; ++i)
    map_across<kept>(c.across, sums[i], columns, s.begin, span, out, i);
}

// Where blocks of a component are only chosen: those of a tile.
struct Chosen {
  const int16_t* blocks[N];

  // From block `at` on of rows `top` and the following of the result, count of them; beyond, the
  // last.
  void find(const GatherComponent& c, const int16_t* picture, int64_t top, int64_t at, int count,
            int64_t columns) {
    int64_t y = at / columns, x = at % columns;
    for (int i = 0; i < N; ++i) {
      if (i < count) {
        blocks[i] = picture + c.down.blocks[top + y].first * c.stride_y +
                    c.across.blocks[x].first * c.stride_x;
        if (++x == columns) x = 0, ++y;
      } else {
        blocks[i] = blocks[i - 1];
      }
    }
  }
};

using Pairs = Vec<int32_t>;  // of coefficients 2 d and 2 d + 1
constexpr int kPairs = kBlock / 2;

// Row v of as many blocks as a vector holds.
FREQOPS_INLINE Pairs load_rows(const int16_t* const* blocks, int v) {
#if defined(__AVX512F__)
  const auto row = [&](int i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks[i] + v * kBlock));
  };
  __m512i all = _mm512_zextsi128_si512(row(0));
  all = _mm512_maskz_inserti32x4(0xffff, all, row(1), 1);
  all = _mm512_maskz_inserti32x4(0xffff, all, row(2), 2);
  return (Pairs)_mm512_maskz_inserti32x4(0xffff, all, row(3), 3);
#elif defined(__AVX2__)
  const auto row = [&](int i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks[i] + v * kBlock));
  };
  return (Pairs)_mm256_inserti128_si256(_mm256_castsi128_si256(row(0)), row(1), 1);
#else
  return load_vector<Pairs>(blocks[0] + v * kBlock);
#endif
}

// Coefficient u of row v of every block of a tile, as stored: pairs are turned to lanes, whose
// index is block * 4 + d before and d * N + block behind, then taken apart.
FREQOPS_INLINE void turn_stored(const Chosen& chosen, int v, Vec<float> (&out)[kBlock]) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "pairs");
  constexpr int blocks = N / kPairs;  // of a vector
  Pairs x[kPairs];
  for (int i = 0; i < kPairs; ++i) x[i] = load_rows(chosen.blocks + i * blocks, v);
  for (int stage = 0; stage < 2; ++stage) {
    const Pairs t[] = {even(x[0], x[1]), even(x[2], x[3]), odd(x[0], x[1]), odd(x[2], x[3])};
    for (int i = 0; i < kPairs; ++i) x[i] = t[i];
  }
  for (int d = 0; d < kPairs; ++d) {
    out[2 * d] = __builtin_convertvector(x[d] << 16 >> 16, Vec<float>);
    out[2 * d + 1] = __builtin_convertvector(x[d] >> 16, Vec<float>);
  }
}

// Coefficient u of row v of every block of a tile.
FREQOPS_INLINE void turn(const Row (&line)[N], Vec<float> (&out)[kBlock]) {
  for (int i = 0; i < kBlock; ++i)
    out[i] = load_vector<Vec<float>>(reinterpret_cast<const float*>(line) + i * N);
  rows_to_lanes(out);
}

// [channel][block] of a tile to channels_last.
template <class T>
void store_channels_last(const Vec<float>* staged, int channels, int count, T* to) {
  for (int channel = 0; channel < channels; channel += N) {
    const int some = int(smaller(channels - channel, N));
    Vec<float> x[N] = {};
    for (int i = 0; i < some; ++i) x[i] = staged[channel + i];
    transpose(x);
    for (int block = 0; block < count; ++block) {
      T* at = to + int64_t(block) * channels + channel;
      if (some == N)
        store<float>(at, x[block]);
      else
        store_some<float>(at, x[block], some);
    }
  }
}

// The steps of a picture, and what its coefficients are multiplied by to be results: where blocks
// are only chosen, steps too.
struct Scales {
  Row steps[kComponents][kBlock];
  float factors[kChannels];

  void read(const Gather& p, int64_t n) {
    for (int k = 0; k < kComponents; ++k) {
      const GatherComponent& c = p.components[k];
      for (int i = 0; i < kCoefficients; ++i)
        steps[k][i / kBlock][i % kBlock] = c.steps ? float(c.steps[n * c.stride_steps + i]) : 1.0f;
      for (int line = k * kBlock; line < (k + 1) * kBlock; ++line)
        for (int i = p.first[line]; i < p.first[line + 1]; ++i)
          factors[i] =
              p.entries[i].scale * (is_chosen(c) ? steps[k][line % kBlock][p.entries[i].u] : 1.0f);
    }
  }
};

template <class T>
void run(const Gather& p, int64_t begin, int64_t end) {
  const int64_t columns = p.out.width;
  alignas(kLine) Lines lines = {};
  Vec<float> staged[kChannels];
  const Scratch scratch(p);
  Scales scales;
  Chosen chosen = {};
  // Tiles may cross the ends of rows where no blocks beside each other are mapped together.
  bool any = true;
  for (const GatherComponent& c : p.components)
    if (c.rows > 0 && c.blocks != nullptr) any = any && is_chosen(c);

  int64_t steps_of = -1;
  for (int64_t item = begin, rows; item < end; item += rows) {
    const int64_t n = item / p.out.height, top = item % p.out.height;
    rows = any ? smaller(p.out.height - top, end - item) : 1;
    if (n != steps_of) scales.read(p, n);
    steps_of = n;
    for (int64_t left = 0; left < rows * columns; left += N) {
      const int count = int(smaller(rows * columns - left, N));
      T* first = static_cast<T*>(p.out.data) + n * p.out.stride_n + top * p.out.stride_h +
                 left * p.out.stride_w;
      for (int k = 0; k < kComponents; ++k) {
        const GatherComponent& c = p.components[k];
        if (c.rows == 0) continue;
        const bool stored = c.blocks != nullptr && is_chosen(c);
        const int16_t* picture = c.blocks + n * c.stride_n;
        if (c.blocks == nullptr) {
          for (auto& line : lines)
            for (Row& row : line) row = Row{};
        } else if (stored) {
          chosen.find(c, picture, top, left, count, columns);
        } else {
          with_count(c.rows, [&](auto kept) {
            map_tile<kept>(c, scales.steps[k], picture, top, left, count, scratch.rows, lines);
          });
        }
        for (int v = 0; v < c.rows; ++v) {
          const int from = p.first[k * kBlock + v], to = p.first[k * kBlock + v + 1];
          if (from == to) continue;
          Vec<float> x[kBlock];
          if (stored)
            turn_stored(chosen, v, x);
          else
            turn(lines[v], x);
          for (int i = from; i < to; ++i) {
            const GatherEntry& e = p.entries[i];
            const Vec<float> out = x[e.u] * scales.factors[i] + e.offset;
            if (p.channels_last)
              staged[e.channel] = out;
            else if (count == N)
              store<float>(first + e.channel * p.out.stride_c, out);
            else
              store_some<float>(first + e.channel * p.out.stride_c, out, count);
          }
        }
      }
      if (p.channels_last) store_channels_last(staged, int(p.out.channels), count, first);
    }
  }
}

}  // namespace

void FREQOPS_ISA::gather(const Gather& p, int64_t begin, int64_t end) {
  switch (p.out.type) {
    case Type::kHalf: return run<Half>(p, begin, end);
    case Type::kBfloat16: return run<BFloat16>(p, begin, end);
    default: return run<float>(p, begin, end);
  }
}

}  // namespace freqops::cpu
