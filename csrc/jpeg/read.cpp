#include "read.h"

#include <algorithm>
#include <utility>

#include "dequantize.h"
#include "orientation.h"
#include "session.h"
#include "signature.h"

namespace freqops::jpeg {
namespace {

// What no scan brought; empty where all is there. T.81 lets a progressive file end, with its end
// marker, before the last bits of its coefficients, but encoders do not: it is a truncated file
// that a program closed.
std::string missing_scans(const jpeg_decompress_struct& cinfo, const Frame& frame) {
  constexpr const char* kNames[] = {"Y", "Cb", "Cr"};
  for (int i = 0; i < frame.components; ++i) {
    const std::string name = frame.components == 1 ? "the gray values" : kNames[i];
    // The table is taken up when the first scan of its component begins.
    if (cinfo.comp_info[i].quant_table == nullptr) return "no scan holds " + name;
    if (cinfo.coef_bits == nullptr) continue;
    // Bits of each coefficient that are still to come; -1 where none has come.
    const int* bits = cinfo.coef_bits[i];
    if (std::any_of(bits, bits + kBlock, [](int b) { return b != 0; })) {
      return "the last scans of " + name + " are missing";
    }
  }
  return "";
}

bool all_zero(const jvirt_barray_control& array) {
  const size_t count = size_t{array.row_count} * array.row_length * kBlock;
  return std::all_of(array.memory, array.memory + count, [](int16_t x) { return x == 0; });
}

int orientation_of(const jpeg_decompress_struct& cinfo) {
  for (jpeg_saved_marker_ptr m = cinfo.marker_list; m != nullptr; m = m->next) {
    const int orientation = exif_orientation(m->data, m->data_length);
    if (orientation != 0) return orientation;
  }
  return 1;
}

}  // namespace

Outcome read(const uint8_t* data, size_t size, const Options& options, Picture* picture,
             std::string* reason) {
  const std::string other = not_jpeg(data, size);
  if (!other.empty()) {
    *reason = "not a JPEG file: " + other;
    return Outcome::kBroken;
  }

  Session session(data, size, options);
  const Outcome outcome = decode(&session);
  if (outcome != Outcome::kRead) {
    *reason = session.reason;
    return outcome;
  }
  const jpeg_decompress_struct& cinfo = session.cinfo;
  const Frame& frame = session.frame;
  const bool damaged = session.errors.num_warnings != 0;
  const std::string missing = missing_scans(cinfo, frame);
  if (!missing.empty() && !options.tolerant) {
    *reason = missing + ": the file is truncated or damaged";
    return Outcome::kDamaged;
  }
  const std::string damage = damaged ? session.warning : missing;
  if (!damage.empty() && all_zero(session.arrays[0])) {
    *reason = "no coefficient could be decoded: " + damage;
    return Outcome::kBroken;
  }

  picture->components = frame.components;
  picture->subsampling = frame.subsampling;
  picture->height = static_cast<int>(frame.height);
  picture->width = static_cast<int>(frame.width);
  picture->orientation = orientation_of(cinfo);
  picture->progressive = frame.progressive;
  picture->damage = damage;
  for (int i = 0; i < frame.components; ++i) {
    const jpeg_component_info& component = cinfo.comp_info[i];
    const JQUANT_TBL* table = component.quant_table;
    // Tolerated: its scan did not come. DQT may have.
    if (table == nullptr && component.quant_tbl_no < NUM_QUANT_TBLS) {
      table = cinfo.quant_tbl_ptrs[component.quant_tbl_no];
    }
    if (table == nullptr) {
      *reason = missing + ", and it has no quantisation table";
      return Outcome::kBroken;
    }
    jvirt_barray_control* array = &session.arrays[i];
    Plane* plane = &picture->planes[i];
    plane->values.reset(std::exchange(array->memory, nullptr));
    plane->rows = component.height_in_blocks;
    plane->columns = component.width_in_blocks;
    plane->stride = array->row_length;
    std::copy_n(table->quantval, kBlock, plane->table);
    if (options.dequantize) dequantize(plane);
  }
  return Outcome::kRead;
}

}  // namespace freqops::jpeg
