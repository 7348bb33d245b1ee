#include <weft/block/digest.hpp>
#include <weft/block/model_spec.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <set>
#include <vector>

using namespace weft;
using namespace weft::block;

namespace {

// Computed by key_vectors.py, which follows docs/keys.md with Python's hashlib.
model_spec llama3() {
  return {.architecture = "llama",
          .layers = 16,
          .query_heads = 32,
          .kv_heads = 8,
          .head_dim = 64,
          .cache_dtype = kernels::dtype::bf16,
          .rope = {.theta = 500000.0,
                   .scaling = rope_spec::scaling_kind::llama3,
                   .factor = 32.0,
                   .low_freq_factor = 1.0,
                   .high_freq_factor = 4.0,
                   .original_context_tokens = 8192},
          .weights_digest = {0x0011223344556677, 0x8899aabbccddeeff}};
}

model_spec with_scaling(rope_spec::scaling_kind kind) {
  model_spec spec = llama3();
  spec.rope.scaling = kind;
  return spec;
}

}  // namespace

TEST_CASE("fingerprints are those of the specification") {
  CHECK(to_hex(fingerprint(llama3())) == "484558cd711040d54320cce5b8665614");
  CHECK(to_hex(fingerprint(with_scaling(rope_spec::scaling_kind::none))) ==
        "45075661cb26ad39fb6666bf55083be9");
  CHECK(to_hex(fingerprint(with_scaling(rope_spec::scaling_kind::linear))) ==
        "59d66c1f612577447faf81f5af2e0aa0");
}

TEST_CASE("whatever changes a block's bytes changes the fingerprint") {
  const std::vector<std::function<void(model_spec&)>> changes{
      [](model_spec&) {},
      [](model_spec& s) { s.architecture = "qwen2"; },
      [](model_spec& s) { ++s.layers; },
      [](model_spec& s) { ++s.query_heads; },
      [](model_spec& s) { ++s.kv_heads; },
      [](model_spec& s) { ++s.head_dim; },
      [](model_spec& s) { s.cache_dtype = kernels::dtype::f16; },
      [](model_spec& s) { s.rope.theta = 10000.0; },
      [](model_spec& s) { s.rope.factor = 8.0; },
      [](model_spec& s) { s.rope.low_freq_factor = 2.0; },
      [](model_spec& s) { s.rope.high_freq_factor = 8.0; },
      [](model_spec& s) { s.rope.original_context_tokens = 4096; },
      [](model_spec& s) { s.rope.scaling = rope_spec::scaling_kind::linear; },
      [](model_spec& s) { s.weights_digest.low ^= 1; },
  };
  std::set<id128> fingerprints;
  for (const auto& change : changes) {
    model_spec spec = llama3();
    change(spec);
    fingerprints.insert(fingerprint(spec));
  }
  CHECK(fingerprints.size() == changes.size());
}

TEST_CASE("parameters that a scaling does not use do not change the fingerprint") {
  model_spec spec = with_scaling(rope_spec::scaling_kind::none);
  spec.rope.factor = 99;
  spec.rope.original_context_tokens = 1;
  CHECK(fingerprint(spec) == fingerprint(with_scaling(rope_spec::scaling_kind::none)));
}

TEST_CASE("a digest is the front of SHA-256 over tag and fields") {
  // SHA-256 of four zero bytes: an empty tag.
  CHECK(to_hex(digest("").finish()) == "df3f619804a92fdb4057192dc43dd748");
  CHECK(digest("a").text("b").finish() != digest("a").text("").text("b").finish());
  CHECK(digest("a").text("bc").finish() != digest("ab").text("c").finish());
}
