// jpeg_gather: blocks of coefficients, 64 to a block, to planes of the chosen channels.
//
// The result is made in groups of tiles, as that of block_dct. Where blocks are only chosen, rows of
// a block are turned to lanes as they are stored. Else columns are mapped first, those of the blocks
// that a tile comes from, then rows (axis_map.h), and what is wanted is turned then: a vector holds
// one coefficient of all N = kLanes<float> blocks of the tile.
#include <cstdlib>

#include "isa.h"
#include "write_channels.h"

namespace freqops::cpu {
namespace {

constexpr int N = kLanes<float>;
using Row = VectorOf<float, kBlock>::type;       // a row of a block
using Stored = VectorOf<int16_t, kBlock>::type;  // as in memory
using Lines = Row[kBlock][N];                    // [v, block]

// Rows of blocks beside each other, as many as fill a vector; of one where a vector is shorter.
constexpr int kBeside = kVectorBytes > int(sizeof(Row)) ? 2 : 1;
using Rows = VectorOf<float, kBeside * kBlock>::type;

// A row of a block and the same of the one `next` elements behind it.
FREQOPS_INLINE Rows coefficients(const int16_t* row, int64_t next) {
#if defined(__AVX512F__)
  const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(load_vector<__m128i>(row)),
                                               load_vector<__m128i>(row + next), 1);
  return (Rows)_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi16_epi32(0xffff, both));
#else
  static_assert(kBeside == 1);
  (void)next;
  return __builtin_convertvector(load_vector<Stored>(row), Rows);
#endif
}

// Columns `begin` to `end` of blocks, mapped down: rows 0 ... kept - 1 of [v, column], `span`
// columns apart, which leaves room for one too many.
template <int kept>
__attribute__((noinline)) void map_down(const GatherComponent& c, const Rows (&steps)[kBlock],
                                        const int16_t* picture, const AxisMap::Block& sum,
                                        int64_t begin, int64_t end, int64_t span, Row* out) {
  const AxisView& down = c.down;
  for (int64_t x = begin; x < end; x += kBeside) {
    const int64_t next = x + 1 < end ? c.stride_x : 0;
    Rows rows[kept] = {};
    for (int i = 0; i < sum.count; ++i) {
      const int16_t* block = picture + (sum.first + i) * c.stride_y + x * c.stride_x;
      const float* matrix = down.matrices + (sum.matrix + i) * int64_t(kCoefficients);
      for (int u = 0; u < down.used; ++u) {
        const Rows from = coefficients(block + u * kBlock, next) * steps[u];
        for (int v = 0; v < kept; ++v) rows[v] += from * matrix[u * kBlock + v];
      }
    }
    for (int v = 0; v < kept; ++v) store_vector(out + v * span + x - begin, rows[v]);
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

  // Room for them, and for one too many.
  int64_t room() const { return (end - begin + kBeside - 1) / kBeside * kBeside; }
};

FREQOPS_INLINE Span span_of(const AxisMap::Block* sums, int count) {
  Span span{sums[0].first, sums[0].first + sums[0].count};
  for (int i = 1; i < count; ++i) {
    span.begin = smaller(span.begin, sums[i].first);
    span.end = -smaller(-span.end, -(sums[i].first + sums[i].count));
  }
  return span;
}

// Room for the mapped columns of any tile, to be freed. No std::vector: isa.h says why; no
// destructor: what unwinds it is a symbol that all instruction sets would share.
Row* allocate_columns(const Gather& p) {
  int64_t most = kBeside;
  for (const GatherComponent& c : p.components) {
    if (c.blocks == nullptr || is_chosen(c)) continue;
    for (int64_t left = 0; left < p.out.width; ++left) {
      const Span span = span_of(c.across.blocks + left, int(smaller(p.out.width - left, N)));
      if (span.room() > most) most = span.room();
    }
  }
  void* const rows = std::aligned_alloc(kLine, size_t(most) * sizeof(Row) * kBlock);
  if (rows == nullptr) std::abort();
  return static_cast<Row*>(rows);
}

// A component's part of a tile.
template <int kept>
void map_tile(const GatherComponent& c, const Rows (&steps)[kBlock], const int16_t* picture,
              const Tile& tile, int64_t columns, Row* mapped, Lines& out) {
  int64_t top = tile.by, left = tile.bx;
  for (int lane = 0; lane < tile.count; ++top, left = 0) {
    const int count = int(smaller(tile.count - lane, columns - left));
    const AxisMap::Block* sums = c.across.blocks + left;
    const Span s = span_of(sums, count);
    map_down<kept>(c, steps, picture, c.down.blocks[top], s.begin, s.end, s.room(), mapped);
    for (int i = 0; i < count; ++i, ++lane)
      map_across<kept>(c.across, sums[i], mapped, s.begin, s.room(), out, lane);
  }
}

// Where blocks of a component are only chosen: those of a tile. Meanwhile those of kAhead groups
// later are asked for, into the second-level cache: they lie so far behind, or near to that where
// rows have gaps.
constexpr int kAhead = 3;

struct Chosen {
  const int16_t* blocks[N];

  // Beyond the tile, its last.
  void find(const GatherComponent& c, const int16_t* picture, const Tile& tile, int64_t columns) {
    int64_t y = tile.by, x = tile.bx;
    const bool cropped = uint64_t(c.stride_y) > 2 * uint64_t(columns) * uint64_t(c.stride_x);
    const uintptr_t ahead =
        cropped ? 0 : uintptr_t(c.stride_x) * (kAhead * kGroup * N * sizeof(int16_t));
    for (int i = 0; i < N; ++i) {
      if (i < tile.count) {
        blocks[i] =
            picture + c.down.blocks[y].first * c.stride_y + c.across.blocks[x].first * c.stride_x;
        const uintptr_t later = reinterpret_cast<uintptr_t>(blocks[i]) + ahead;
        constexpr int rows = kLine / int(sizeof(Stored));
        for (int v = 0; v < c.rows; v += rows)
          prefetch<kLine, 0, 2>(reinterpret_cast<const void*>(later + v * sizeof(Stored)));
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
// index is block * 4 + d before and d * N + block behind, then taken apart. To every kGroup-th
// vector.
FREQOPS_INLINE void turn_stored(const Chosen& chosen, int v, Vec<float>* out) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "pairs");
  constexpr int blocks = N / kPairs;  // of a vector
  Pairs x[kPairs];
  for (int i = 0; i < kPairs; ++i) x[i] = load_rows(chosen.blocks + i * blocks, v);
  for (int stage = 0; stage < 2; ++stage) {
    const Pairs t[] = {even(x[0], x[1]), even(x[2], x[3]), odd(x[0], x[1]), odd(x[2], x[3])};
    for (int i = 0; i < kPairs; ++i) x[i] = t[i];
  }
  for (int d = 0; d < kPairs; ++d) {
    out[2 * d * kGroup] = __builtin_convertvector(x[d] << 16 >> 16, Vec<float>);
    out[(2 * d + 1) * kGroup] = __builtin_convertvector(x[d] >> 16, Vec<float>);
  }
}

// Coefficient u of row v of every block of a tile, to every kGroup-th vector.
FREQOPS_INLINE void turn(const Row (&line)[N], Vec<float>* out) {
  Vec<float> x[kBlock];
  for (int i = 0; i < kBlock; ++i)
    x[i] = load_vector<Vec<float>>(reinterpret_cast<const float*>(line) + i * N);
  rows_to_lanes(x);
  for (int i = 0; i < kBlock; ++i) out[i * kGroup] = x[i];
}

// The steps of a picture, and what its coefficients are multiplied by to be results: where blocks
// are only chosen, steps too.
struct Scales {
  Rows steps[kComponents][kBlock];
  float factors[kChannels];

  void read(const Gather& p, int64_t n) {
    for (int k = 0; k < kComponents; ++k) {
      const GatherComponent& c = p.components[k];
      float step[kCoefficients];
      for (int i = 0; i < kCoefficients; ++i)
        step[i] = c.steps ? float(c.steps[n * c.stride_steps + i]) : 1.0f;
      for (int v = 0; v < kBlock; ++v)
        for (int i = 0; i < kBeside * kBlock; ++i) steps[k][v][i] = step[v * kBlock + i % kBlock];
      for (int line = k * kBlock; line < (k + 1) * kBlock; ++line)
        for (int i = p.first[line]; i < p.first[line + 1]; ++i)
          factors[i] = p.entries[i].scale *
                       (is_chosen(c) ? step[line % kBlock * kBlock + p.entries[i].u] : 1.0f);
    }
  }
};

// What becomes of one component of a group on its way.
struct Workspace {
  Lines lines[kGroup];
  Chosen chosen[kGroup];
  Row* mapped;
};

// A component's channels of a group, to out(channel, vectors).
template <class Out>
void gather_component(const Gather& p, int k, const Scales& scales, const Group& group,
                      Workspace& work, const Out& out) {
  const GatherComponent& c = p.components[k];
  const bool stored = c.blocks != nullptr && is_chosen(c);
  const int16_t* picture = c.blocks + group.n * c.stride_n;
  const int64_t columns = p.out.width;
  if (c.blocks == nullptr) {
    for (auto& lines : work.lines)
      for (auto& line : lines)
        for (Row& row : line) row = Row{};
  } else {
    for (int g = 0; g * N < group.count; ++g) {
      const Tile tile = tile_in<float>(group, g, columns);
      if (stored)
        work.chosen[g].find(c, picture, tile, columns);
      else
        with_count(c.rows, [&](auto kept) {
          map_tile<kept>(c, scales.steps[k], picture, tile, columns, work.mapped, work.lines[g]);
        });
    }
  }
  for (int v = 0; v < c.rows; ++v) {
    const int begin = p.first[k * kBlock + v], end = p.first[k * kBlock + v + 1];
    if (begin == end) continue;
    Vec<float> x[kBlock][kGroup] = {};
    for (int g = 0; g * N < group.count; ++g) {
      if (stored)
        turn_stored(work.chosen[g], v, &x[0][g]);
      else
        turn(work.lines[g][v], &x[0][g]);
    }
    for (int i = begin; i < end; ++i) {
      const GatherEntry& e = p.entries[i];
      Vec<float> results[kGroup];
      for (int g = 0; g < kGroup; ++g) results[g] = x[e.u][g] * scales.factors[i] + e.offset;
      out(e.channel, results);
    }
  }
}

// Not past the caches: reading coefficients, twice the bytes of pixels, takes longer beside such
// stores.
template <class T>
void run(const Gather& p, int64_t begin, int64_t end) {
  Workspace work = {};
  work.mapped = allocate_columns(p);
  Vec<float> staged[kChannels][kGroup];
  Scales scales;
  int64_t scales_of = -1;
  for (int64_t i = begin; i < end; ++i) {
    const Group group = group_at(i, p.out.height * p.out.width, kGroup * N);
    if (group.n != scales_of) scales.read(p, group.n);
    scales_of = group.n;
    const auto results = [&](const auto& out) {
      for (int k = 0; k < kComponents; ++k)
        if (p.components[k].rows > 0) gather_component(p, k, scales, group, work, out);
    };
    write_group<T, float, Write::kFetching>(p.out, p.channels_last, false, group, staged, results);
  }
  std::free(work.mapped);
}

}  // namespace

void FREQOPS_ISA::gather(const Gather& p, int64_t begin, int64_t end) {
  switch (p.out.type) {
    case Type::kHalf: return run<Half>(p, begin, end);
    case Type::kBfloat16: return run<BFloat16>(p, begin, end);
    default: return run<float>(p, begin, end);
  }
}
int64_t FREQOPS_ISA::gather_items(const Gather& p) {
  return p.out.batch * groups(p.out.height * p.out.width, kGroup * N);
}

}  // namespace freqops::cpu
