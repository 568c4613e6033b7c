// Analysis: pixels -> two one-dimensional DCTs -> chosen channels, some tiles at a time.
#include <cstring>

#include "half_way.h"
#include "isa.h"
#include "write_channels.h"

namespace freqops::cpu {
namespace {

static_assert(kGroup * kLanes<float> == kItemBlocks<float>, "a group is an item");

// Outputs 0 ... kept - 1 of the second transform of a line, to every kGroup-th vector.
template <int kept, class acc>
__attribute__((noinline)) void transform_line(const Vec<acc>* line, Vec<acc>* out) {
  Vec<acc> x[kBlock];
  for (int i = 0; i < kBlock; ++i) x[i] = line[i];
  dct8<acc>(x);
  for (int i = 0; i < kept; ++i) out[i * kGroup] = x[i];
}

template <bool jpeg, class acc, class Out>
void write_line(const Analysis<acc>& p, int begin, int end, const Vec<acc> (&in)[kBlock][kGroup],
                const Out& out) {
  for (int i = begin; i < end; ++i) {
    const AnalysisEntry<acc>& e = p.entries[i];
    Vec<acc> x[kGroup];
    for (int g = 0; g < kGroup; ++g) {
      x[g] = in[e.at][g];
      if (jpeg) x[g] = round_even<acc>(x[g] * e.dct_scale);
      x[g] = x[g] * e.scale + e.offset;
    }
    out(e.channel, x);
  }
}

template <class acc, class Out>
__attribute__((noinline)) void transform_group(const Analysis<acc>& p,
                                               const Planes<acc> (&half)[kGroup], const Out& out) {
  Vec<acc> outputs[kBlock][kGroup];
  for (int k = 0; k < kComponents; ++k) {
    for (int line = 0; line < p.lines[k]; ++line) {
      const int begin = p.first[k * kBlock + line], end = p.first[k * kBlock + line + 1];
      if (begin == end) continue;
      with_count(p.outputs[k][line], [&](auto kept) {
        for (int g = 0; g < kGroup; ++g)
          transform_line<kept, acc>(half[g][k] + line * kBlock, &outputs[0][g]);
      });
      if (p.jpeg)
        write_line<true>(p, begin, end, outputs, out);
      else
        write_line<false>(p, begin, end, outputs, out);
    }
  }
}

template <class T, class acc>
void run(const Analysis<acc>& p, int64_t begin, int64_t end) {
  constexpr int N = kLanes<acc>, blocks = kGroup * N;
  alignas(64) Planes<acc> half[kGroup] = {};  // what no tile fills is never written
  Vec<acc> staged[kChannels][kGroup];
  if (p.channels_last && p.first[kComponents * kBlock] < p.out.channels)
    std::memset(staged, 0, sizeof(staged));  // channels without an entry
  const int64_t grid = p.grid_h * p.grid_w;
  for (int64_t i = begin; i < end; ++i) {
    const Group group = group_at(i, grid, blocks);
    for (int g = 0; g * N < group.count; ++g)
      half_way_any(p, tile_in<acc>(group, g, p.grid_w), half[g]);
    write_group<T, acc, Write::kWhole>(p.out, p.channels_last, p.stream, group, staged,
                                       [&](const auto& out) { transform_group(p, half, out); });
  }
  if (p.stream) order_stores();
}

template <class acc>
void analyse(const Analysis<acc>& p, int64_t begin, int64_t end) {
  switch (p.out.type) {
    case Type::kHalf: return run<Half>(p, begin, end);
    case Type::kBfloat16: return run<BFloat16>(p, begin, end);
    case Type::kFloat: return run<float>(p, begin, end);
    case Type::kDouble:
      if constexpr (sizeof(acc) == 8) return run<double>(p, begin, end);
      return;
    case Type::kUint8: return;  // coefficients have no such type
  }
}

template <class acc>
int64_t items(const Analysis<acc>& p) {
  return p.in.batch * groups(p.grid_h * p.grid_w, kGroup * kLanes<acc>);
}

}  // namespace

void FREQOPS_ISA::analysis(const Analysis<float>& p, int64_t begin, int64_t end) {
  analyse(p, begin, end);
}
void FREQOPS_ISA::analysis(const Analysis<double>& p, int64_t begin, int64_t end) {
  analyse(p, begin, end);
}
int64_t FREQOPS_ISA::analysis_items(const Analysis<float>& p) { return items(p); }
int64_t FREQOPS_ISA::analysis_items(const Analysis<double>& p) { return items(p); }

}  // namespace freqops::cpu
