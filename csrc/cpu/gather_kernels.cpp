// jpeg_gather: blocks of coefficients, 64 to a block, to planes of the chosen channels.
//
// A row of blocks of the result is made a tile at a time, N = kLanes<float> blocks beside each other.
// Where an axis is more than a selection of blocks, columns are mapped first, those of the blocks that
// the tile comes from, then rows (axis_map.h). What is wanted is then turned to lanes: a vector holds
// one coefficient of all blocks of the tile.
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
    int64_t most = 0;
    for (const GatherComponent& c : p.components) {
      if (c.blocks == nullptr) continue;
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

// The same where blocks are only chosen.
void copy_tile(const GatherComponent& c, const Row (&steps)[kBlock], const int16_t* picture,
               int64_t top, int64_t left, int count, Lines& out) {
  const int16_t* block =
      picture + c.down.blocks[top].first * c.stride_y + c.across.blocks[left].first * c.stride_x;
  for (int i = 0; i < count; ++i, block += c.stride_x)
    for (int v = 0; v < c.rows; ++v) out[v][i] = coefficients(block, steps, v);
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

template <class T>
void run(const Gather& p, int64_t begin, int64_t end) {
  const int64_t columns = p.out.width;
  alignas(kLine) Lines lines = {};
  Vec<float> staged[kChannels];
  const Scratch scratch(p);
  Row steps[kComponents][kBlock];
  int64_t steps_of = -1;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / p.out.height, top = item % p.out.height;
    if (n != steps_of) {
      for (int k = 0; k < kComponents; ++k)
        for (int i = 0; i < kCoefficients; ++i)
          steps[k][i / kBlock][i % kBlock] =
              p.components[k].steps
                  ? float(p.components[k].steps[n * p.components[k].stride_steps + i])
                  : 1.0f;
      steps_of = n;
    }
    for (int64_t left = 0; left < columns; left += N) {
      const int count = int(smaller(columns - left, N));
      T* first = static_cast<T*>(p.out.data) + n * p.out.stride_n + top * p.out.stride_h +
                 left * p.out.stride_w;
      for (int k = 0; k < kComponents; ++k) {
        const GatherComponent& c = p.components[k];
        if (c.rows == 0) continue;
        if (c.blocks == nullptr) {
          for (auto& line : lines)
            for (Row& row : line) row = Row{};
        } else {
          const int16_t* picture = c.blocks + n * c.stride_n;
          if (c.down.identity && c.across.identity)
            copy_tile(c, steps[k], picture, top, left, count, lines);
          else
            with_count(c.rows, [&](auto kept) {
              map_tile<kept>(c, steps[k], picture, top, left, count, scratch.rows, lines);
            });
        }
        for (int v = 0; v < c.rows; ++v) {
          const int from = p.first[k * kBlock + v], to = p.first[k * kBlock + v + 1];
          if (from == to) continue;
          Vec<float> x[kBlock];
          turn(lines[v], x);
          for (int i = from; i < to; ++i) {
            const GatherEntry& e = p.entries[i];
            const Vec<float> out = x[e.u] * e.scale + e.offset;
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
