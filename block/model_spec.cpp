#include <weft/block/digest.hpp>
#include <weft/block/model_spec.hpp>

namespace weft::block {

namespace {

void add_rope(digest& fields, const rope_spec& rope) {
  using kind = rope_spec::scaling_kind;
  fields.f64(rope.theta).u8(static_cast<std::uint8_t>(rope.scaling));
  if (rope.scaling != kind::none) fields.f64(rope.factor);
  if (rope.scaling == kind::llama3)
    fields.f64(rope.low_freq_factor).f64(rope.high_freq_factor).u32(rope.original_context_tokens);
}

}  // namespace

id128 fingerprint(const model_spec& spec) {
  digest fields("weft.model.1");
  fields.text(spec.architecture).u32(spec.layers).u32(spec.query_heads).u32(spec.kv_heads).u32(spec.head_dim);
  fields.u8(static_cast<std::uint8_t>(spec.cache_dtype));
  add_rope(fields, spec.rope);
  return fields.id(spec.weights_digest).finish();
}

}  // namespace weft::block
