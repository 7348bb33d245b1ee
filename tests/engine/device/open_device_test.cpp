#include <weft/collective/in_process.hpp>
#include <weft/engine/host_compute_device.hpp>

#include "../small_models.hpp"

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;

TEST_CASE("devices are opened by name") {
  CHECK(open_compute_device("cpu").value() == nullptr);
  CHECK(open_compute_device("auto").has_value());
  for (const std::string wrong : {"", "gpu", "cuda", "cuda:", "cuda:x", "cuda:0 ", "cuda:-1"}) {
    CAPTURE(wrong);
    const auto opened = open_compute_device(wrong);
    REQUIRE(!opened);
    CHECK(opened.error().code == errc::invalid_argument);
    CHECK(opened.error().context.find("`cuda:0`") != std::string::npos);
  }
  const auto none = open_compute_device("cuda:1000");
  REQUIRE(!none);
  CHECK(none.error().code == errc::unsupported);
}

TEST_CASE("a device that the weights do not fit into is refused with what is free") {
  const auto small = host_compute_device(1000);
  auto options = exact_options();
  options.device = small;
  const auto loaded = runner::load(std::string(WEFT_SOURCE_DIR) + "/tests/fixtures/llama", options);
  REQUIRE(!loaded);
  CHECK(loaded.error().code == errc::out_of_space);
  CHECK_MESSAGE(loaded.error().context.find("the weights of the model need 1 MiB") != std::string::npos,
                loaded.error().context);
}
