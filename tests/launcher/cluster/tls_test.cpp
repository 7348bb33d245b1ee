// Real processes whose control messages go over TLS: with the authority's certificates they are a cluster
// like any other; who has none, or another authority's, stays outside and is told why.
#include <weft/launcher/cluster_file.hpp>
#include <weft/launcher/run_folder.hpp>

#include <doctest/doctest.h>

#include "../program_run.hpp"
#include "certificates.hpp"
#include "running_cluster.hpp"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <sstream>

using namespace weft;
using namespace weft::testing;

namespace {

constexpr auto text = "Report of Koreth. The access code for the vault at Koreth is 4821.";

id128 ingest(running_cluster& cluster) {
  client::ingest_request request;
  request.name = "fact";
  request.text = text;
  const auto info = cluster.client().ingest(request);
  REQUIRE_MESSAGE(info, to_string(info.error()));
  return info->id;
}

void check_answer(running_cluster& cluster, const id128& document) {
  client::ask_request request;
  request.question = "What is the access code for the vault at Koreth?";
  request.documents = {document};
  const auto answer = cluster.client().ask(request);
  REQUIRE_MESSAGE(answer, to_string(answer.error()));
  CHECK(answer->answer == "4821");
}

std::string contents_of(const std::filesystem::path& file) {
  std::ostringstream text_of_file;
  text_of_file << std::ifstream(file).rdbuf();
  return text_of_file.str();
}

// A cluster file of the running cluster as a stranger would write it: the first node at its real port,
// another run folder, and `tls_section` in place of the cluster's own.
std::string strangers_file(const running_cluster& cluster, const std::filesystem::path& folder,
                           const std::string& tls_section) {
  const auto seed = launcher::read_address(cluster.folder() / "run", "node-prefill");
  REQUIRE(seed);
  launcher::example_options example;
  example.model_folder = WEFT_SOURCE_DIR "/models/recall";
  example.run_folder = folder / "strangers-run";
  example.gateway_port = 0;
  std::string file = launcher::example_cluster_file(example);
  const std::string first_host = "host = \"127.0.0.1\"\n";
  file.insert(file.find(first_host), "control_port = " + std::to_string(seed->port) + "\n");
  return file + tls_section;
}

std::vector<std::pair<std::string, std::uint64_t>> lives(running_cluster& cluster) {
  const auto status = cluster.client().status();
  REQUIRE(status);
  std::vector<std::pair<std::string, std::uint64_t>> all;
  for (const auto& node : status->nodes)
    all.emplace_back(node.name, node.incarnation);
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

TEST_CASE("nodes with certificates of one authority are a cluster; nobody else gets in") {
  const launcher::program_scene scene;
  const auto own = make_certificates(scene.path() / "own");
  running_cluster cluster{2, running_cluster::tiers::memory, own.section()};
  const auto document = ingest(cluster);
  check_answer(cluster, document);
  const auto before = lives(cluster);
  CHECK(before.size() == 4);

  const auto stays_outside = [&](const std::string& tls_section, const std::string& message) {
    const auto file = scene.write("stranger.toml", strangers_file(cluster, scene.path(), tls_section));
    launcher::running_program stranger(scene, {"node", file.string(), "storage-1"});
    CHECK(stranger.wait_for_message(message));
    check_answer(cluster, document);
    CHECK(lives(cluster) == before);
    stranger.signal(SIGTERM);
    CHECK(stranger.wait().exit_code == 0);
  };
  SUBCASE("a certificate of another authority") {
    stays_outside(make_certificates(scene.path() / "other").section(),
                  "both sides need certificates of the same authority");
  }
  SUBCASE("a certificate of another authority, but this one's trusted") {
    const auto other = make_certificates(scene.path() / "other");
    std::ofstream(other.authority, std::ios::app) << contents_of(own.authority);
    stays_outside(other.section(), "both sides need certificates of the same authority");
  }
  SUBCASE("no certificate") {
    stays_outside("", "if its cluster has a [tls] section, this node needs it too");
  }
  CHECK(cluster.stop() == 0);
}

TEST_CASE("certificate, key and authority that do not belong together are refused at the start, by name") {
  const launcher::program_scene scene;
  const auto one = make_certificates(scene.path() / "one");
  const auto two = make_certificates(scene.path() / "two");
  const auto refused = [&](const certificate_files& files, const std::string& message) {
    launcher::example_options example;
    example.model_folder = WEFT_SOURCE_DIR "/models/recall";
    example.run_folder = scene.path() / "run-folder";
    example.gateway_port = 0;
    const auto file = scene.write("cluster.toml", launcher::example_cluster_file(example) + files.section());
    const auto outcome = scene.run({"node", file.string(), "storage-1"});
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code != 0);
    CHECK(outcome.exit_code < 128);
    CHECK(outcome.err.find(message) != std::string::npos);
  };
  refused({one.certificate, one.key, two.authority}, "is not a valid one of the authority");
  refused({one.certificate, two.key, one.authority}, "is not the key of the certificate");
  refused({one.key, one.key, one.authority}, "has no certificate in PEM form");
  refused({one.certificate, one.certificate, one.authority}, "has no private key in PEM form");
}
