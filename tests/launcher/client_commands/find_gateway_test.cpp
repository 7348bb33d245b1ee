#include "find_gateway.hpp"

#include <weft/launcher/cluster_file.hpp>
#include <weft/launcher/run_folder.hpp>

#include <doctest/doctest.h>

#include "progress_bar.hpp"
#include "scratch_folder.hpp"

using namespace weft;
using namespace weft::launcher;
using weft::launcher::testing::scratch_folder;

TEST_CASE("an address that is given is taken, with the token of the file that is given") {
  const scratch_folder folder;
  gateway_options options;
  options.gateway = "example.org:1234";
  CHECK(find_gateway(options, folder.path()).value().address == "example.org:1234");
  CHECK(find_gateway(options, folder.path()).value().token.empty());
  options.token_file = folder.write("token", "secret\r\n");
  CHECK(find_gateway(options, folder.path()).value().token == "secret");
}

TEST_CASE("a token file that holds none is refused, without its content") {
  const scratch_folder folder;
  gateway_options options;
  options.gateway = "example.org:1234";
  for (const auto& file : {folder.write("empty", ""), folder.write("newline", "\n"),
                           folder.path() / "missing", folder.write("long", std::string(2000, 's'))}) {
    options.token_file = file;
    const auto found = find_gateway(options, folder.path());
    REQUIRE(!found);
    CHECK(found.error().code == errc::invalid_argument);
    CHECK(found.error().context.find("sss") == std::string::npos);
  }
}

TEST_CASE("without an address the cluster file of the folder says where") {
  const scratch_folder folder;
  CHECK(find_gateway({}, folder.path()).error().code == errc::unreachable);

  example_options example;
  example.model_folder = std::filesystem::path(WEFT_SOURCE_DIR) / "models" / "recall";
  example.run_folder = folder.path() / "run";
  example.gateway_port = 7611;
  folder.write("cluster.toml", example_cluster_file(example));
  const auto listening = find_gateway({}, folder.path());
  INFO((listening ? "" : listening.error().context));
  REQUIRE(listening);
  CHECK(listening->address == "127.0.0.1:7611");

  REQUIRE(create_run_folder(example.run_folder));
  REQUIRE(write_address(example.run_folder, "gateway", {"127.0.0.1", 4242}));
  CHECK(find_gateway({}, folder.path()).value().address == "127.0.0.1:4242");
}

TEST_CASE("a cluster file with a mistake is refused with its place") {
  const scratch_folder folder;
  folder.write("cluster.toml", "modl = \"x\"\n");
  const auto found = find_gateway({}, folder.path());
  REQUIRE(!found);
  CHECK(found.error().code == errc::invalid_argument);
  CHECK(found.error().context.find("cluster.toml:1:1") != std::string::npos);
}

TEST_CASE("a progress line has its parts, and is no wider than the terminal") {
  CHECK(progress_line(0.5, "notes", 80) == "[############------------]  50% notes");
  CHECK(progress_line(2, "notes", 80) == "[########################] 100% notes");
  CHECK(progress_line(-1, "a\x1b[2Jb", 80) == "[------------------------]   0% a?[2Jb");
  CHECK(progress_line(0.5, std::string(200, 'x'), 40).size() == 39);
}
