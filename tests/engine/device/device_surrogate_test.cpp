// What KVzap's surrogates guess on a device: what it costs a pass, and where the device fails or has no room.
#include <weft/device/host_device.hpp>
#include <weft/engine/host_compute_device.hpp>
#include <weft/engine/scoring.hpp>

#include "../random_surrogate.hpp"
#include "../small_models.hpp"
#include "../temporary_folder.hpp"
#include "device_options.hpp"

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::device::failing;
using weft::device::host_device;
using weft::policies::importance_policy;
using weft::policies::score_table;

namespace {

constexpr std::uint32_t chunk_rows = 17;
constexpr float tolerance = 2e-2F;

runner load(const std::filesystem::path& folder, std::shared_ptr<const compute_device> device) {
  auto loaded = runner::load(folder, options_in_parts(std::move(device), chunk_rows));
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

// A model on a device, with a surrogate of noise beside it, and what that guesses on the CPU.
class guessed_model {
 public:
  guessed_model() {
    copy_fixture("llama", folder_.path());
    auto cpu = load(folder_.path(), nullptr);
    REQUIRE(write_surrogate(surrogate_file(folder_.path(), surrogate_kind::mlp),
                            random_layers(cpu.config(), 6, 9), cpu));
    row_scorer scorer(cpu);
    auto scores = score(scorer, cpu);
    REQUIRE_MESSAGE(scores.has_value(), scores.error().context);
    expected = std::move(*scores);
    there.emplace(load(folder_.path(), on));
  }

  weft::result<score_table> score(row_scorer& scorer, runner& model,
                                  importance_policy policy = importance_policy::kvzap_mlp) const {
    kv_cache cache(model.cache_shape(), static_cast<std::uint32_t>(tokens.size()));
    return scorer.score(cache, {.policy = policy, .tokens = tokens});
  }
  weft::result<score_table> score(row_scorer& scorer) { return score(scorer, *there); }
  // By a scorer that has nothing on the device yet.
  weft::result<score_table> score_anew() {
    row_scorer scorer(*there);
    return score(scorer);
  }

  bool is_right(const weft::result<score_table>& scores) const {
    return scores && distance(scores->values, expected.values) <= tolerance;
  }
  host_device& device() const { return dynamic_cast<host_device&>(*on->memory); }
  std::size_t free_bytes() const { return device().sizes().free_bytes; }

  std::vector<token_id> tokens = some_tokens(40, 3);
  std::shared_ptr<const compute_device> on = host_compute_device(std::size_t{64} << 20U);
  std::optional<runner> there;
  score_table expected;

 private:
  weft::test::temporary_folder folder_;
};

}  // namespace

TEST_CASE("a pass whose rows are guessed on its device waits no more than one that nobody scores") {
  guessed_model m;
  row_scorer scorer(*m.there);
  REQUIRE(m.is_right(m.score(scorer)));
  const auto counts_of = [&](importance_policy policy) {
    const auto before = m.device().counts();
    REQUIRE(m.score(scorer, *m.there, policy));
    const auto after = m.device().counts();
    return std::array{after.waits - before.waits, after.downloads - before.downloads,
                      after.download_bytes - before.download_bytes, after.upload_bytes - before.upload_bytes};
  };
  const auto [waits, downloads, down_bytes, up_bytes] = counts_of(importance_policy::streaming_llm);
  const auto guessed = counts_of(importance_policy::kvzap_mlp);
  const std::size_t parts = (m.tokens.size() + chunk_rows - 1) / chunk_rows;
  CHECK(guessed[0] == waits);
  CHECK(guessed[1] == downloads + m.there->config().layers * parts);
  CHECK(guessed[2] == down_bytes + m.expected.values.size() * sizeof(float));
  CHECK(guessed[3] == up_bytes);
}

TEST_CASE("guesses whose device fails anywhere are told or made on the host, and the next ones are right") {
  guessed_model m;
  REQUIRE(m.is_right(m.score_anew()));
  const auto free_bytes = m.free_bytes();
  const auto before = m.device().counts().works();
  REQUIRE(m.is_right(m.score_anew()));
  const auto works = m.device().counts().works() - before;
  std::uint64_t told = 0, on_the_host = 0;
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    m.device().fail_at(n, failing::once);
    const auto scores = m.score_anew();
    m.device().fail_no_more();
    if (scores) {
      CHECK(m.is_right(scores));
      ++on_the_host;
    } else {
      CHECK(scores.error().code == weft::errc::internal);
      ++told;
    }
    CHECK(m.free_bytes() == free_bytes);
    if (n % 7 == 0) CHECK(m.is_right(m.score_anew()));
  }
  // Weights and biases of two matrices a layer, on their way there.
  CHECK(on_the_host == 4 * m.there->config().layers);
  CHECK(told == works - on_the_host);
}

TEST_CASE("a surrogate that has no room on the device guesses on the host, until there is some") {
  guessed_model m;
  row_scorer scorer(*m.there);
  const auto waits_of_guesses = [&] {
    const auto before = m.device().counts().waits;
    CHECK(m.is_right(m.score(scorer)));
    return m.device().counts().waits - before;
  };
  REQUIRE(m.score(scorer, *m.there, importance_policy::streaming_llm));  // memory grows
  const auto free_bytes = m.free_bytes();
  std::uint64_t waits = 0;
  {
    const std::size_t cache_bytes = std::size_t{64} << 10U;
    const auto others = m.on->memory->allocate(free_bytes - cache_bytes, "others");
    REQUIRE(others);
    waits = waits_of_guesses();
    CHECK(m.free_bytes() == cache_bytes);
  }
  (void)waits_of_guesses();
  CHECK(m.free_bytes() < free_bytes);
  const std::size_t parts = (m.tokens.size() + chunk_rows - 1) / chunk_rows;
  CHECK(waits_of_guesses() == waits - m.there->config().layers * parts);
}
