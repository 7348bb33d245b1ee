#include <weft/launcher/cluster_file.hpp>

#include <doctest/doctest.h>

#include "temporary_folder.hpp"
#include <sys/stat.h>

#include <algorithm>

using namespace weft::launcher;
using weft::actors::role;

namespace {

// A valid file whose lines a test changes.
constexpr std::string_view valid = R"(model = "model"
replicas = 1

[gateway]
listen = "127.0.0.1:7600"

[[node]]
name = "a"
roles = ["prefill", "storage"]
dram = "64 MiB"

[[node]]
name = "b"
roles = ["decode", "gateway"]
)";

std::string with(std::string_view from, std::string_view to) {
  std::string text(valid);
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

class cluster_fixture {
 public:
  cluster_fixture() { folder.write("model/config.json", "{}"); }

  checked_cluster check(std::string_view text) const {
    return parse_cluster_file(text, folder.path() / "cluster.toml");
  }

  // The one mistake of the text, as "line:column: text".
  std::string only_mistake(std::string_view text) const {
    const auto checked = check(text);
    CHECK_FALSE(checked.cluster);
    REQUIRE(checked.mistakes.size() == 1);
    return to_string("f", checked.mistakes.front()).substr(2);
  }

  temporary_folder folder;
};

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE_FIXTURE(cluster_fixture, "a valid file becomes one config for each node") {
  const auto checked = check(with("replicas = 1", R"(replicas = 1
tenant = "acme"
block_tokens = 32
cache_dtype = "bf16"
threads = 3
run_folder = "run")"));
  for (const auto& m : checked.mistakes)
    FAIL_CHECK(to_string("f", m));
  REQUIRE(checked.cluster);
  const auto& cluster = *checked.cluster;
  REQUIRE(cluster.nodes.size() == 2);
  const auto& a = cluster.nodes[0];
  CHECK(a.name == "a");
  CHECK(a.roles == std::vector{role::prefill, role::storage});
  REQUIRE(a.candidates.size() == 2);
  CHECK(a.candidates[0].name == "a");
  CHECK(a.dram_bytes == 64U << 20);
  CHECK(a.tenant == "acme");
  CHECK(a.block_tokens == 32);
  CHECK(a.cache_dtype == "bf16");
  CHECK(a.threads == 3);
  CHECK(a.model_folder == folder.path() / "model");
  CHECK(a.run_folder == folder.path() / "run");
  CHECK(cluster.run_folder == folder.path() / "run");
  CHECK(cluster.nodes[1].candidates[1].name == "b");
  CHECK(cluster.nodes[1].dram_bytes == 0);
  CHECK(cluster.gateway.listen.port == 7600);
  CHECK(cluster.find_node("b") == &cluster.nodes[1]);
  CHECK(cluster.find_node("c") == nullptr);
}

TEST_CASE_FIXTURE(cluster_fixture, "a node says what its model runs on") {
  const auto device_of = [&](const std::string& line) {
    const auto checked = check(with("name = \"a\"", "name = \"a\"" + line));
    REQUIRE(checked.cluster);
    return checked.cluster->nodes[0].device;
  };
  CHECK(device_of("") == "cpu");
  CHECK(device_of("\ndevice = \"auto\"") == "auto");
  CHECK(device_of("\ndevice = \"cuda:3\"") == "cuda:3");
  CHECK(has(only_mistake(with("name = \"a\"", "name = \"a\"\ndevice = \"gpu\"")), "there are `cpu`, `auto`"));
  const auto store = "\n[[node]]\nname = \"c\"\nroles = [\"storage\"]\ndram = \"8 MiB\"\ndevice = \"auto\"\n";
  CHECK(has(only_mistake(std::string(valid) + store), "`device` is for nodes that run the model"));
  const auto third =
      "\n[[node]]\nname = \"c\"\nroles = [\"decode\"]\ngroup = \"pair\"\ndevice = \"cuda:0\"\n";
  const auto group = check(with("\"gateway\"]\n", "\"gateway\"]\ngroup = \"pair\"\n") + third);
  REQUIRE(group.cluster);
  CHECK(group.cluster->nodes.back().device == "cuda:0");
}

TEST_CASE_FIXTURE(cluster_fixture, "a mistyped key is pointed at, with the one that was meant") {
  CHECK(only_mistake(with("replicas = 1", "replica = 1")) ==
        "2:1: unknown key `replica`; did you mean `replicas`?");
  CHECK(only_mistake(with("listen =", "lisen =")) ==
        "5:1: gateway: unknown key `lisen`; did you mean `listen`?");
  CHECK(only_mistake(with("name = \"a\"", "name = \"a\"\nfabric-port = 1")) ==
        "9:1: node \"a\": unknown key `fabric-port`; did you mean `fabric_port`?");
}

TEST_CASE_FIXTURE(cluster_fixture, "every mistake is reported, in the order of the file") {
  const auto checked = check(R"(modell = "model"
replicas = "two"
[gateway]
listen = "nowhere"
[[node]]
name = "a"
roles = ["prefil", "storage"]
dram = "64 MB"
[[node]]
name = "a"
roles = ["decode", "gateway", "decode"]
)");
  std::vector<std::string> texts;
  for (const auto& m : checked.mistakes)
    texts.push_back(to_string("f", m));
  REQUIRE(texts.size() == 8);
  CHECK(has(texts[1], "f:1:1: `model` is missing"));
  CHECK(has(texts[0], "f:1:1: unknown key `modell`; did you mean `model`?"));
  CHECK(has(texts[2], "f:2:12: `replicas` must be a whole number from 1 to 16"));
  CHECK(has(texts[3], "f:4:10: gateway: `listen`: `nowhere` has no port"));
  CHECK(has(texts[4], "f:7:10: node \"a\": unknown role \"prefil\"; did you mean `prefill`?"));
  CHECK(has(texts[5], "f:8:8: node \"a\": `dram`: size \"64 MB\" has an unknown unit"));
  CHECK(has(texts[6], "f:10:8: node \"a\": another node has this name"));
  CHECK(has(texts[7], "f:11:31: node \"a\": role \"decode\" is listed twice"));
}

TEST_CASE_FIXTURE(cluster_fixture, "what is no TOML is pointed at") {
  const auto text = only_mistake(with("replicas = 1", "replicas = = 1"));
  CHECK(text.starts_with("2:"));
  CHECK(has(text, "no TOML"));
}

TEST_CASE_FIXTURE(cluster_fixture, "values out of range") {
  CHECK(has(only_mistake(with("replicas = 1", "replicas = 0")),
            "2:12: `replicas` must be a whole number from 1"));
  CHECK(has(only_mistake(with("replicas = 1", "replicas = 1\nblock_tokens = 8")), "from 16 to 256"));
  CHECK(has(only_mistake(with("replicas = 1", "replicas = 1\nblock_tokens = 64.0")), "from 16 to 256"));
  CHECK(
      has(only_mistake(with("replicas = 1", "replicas = 1\ncache_dtype = \"fp16\"")), "did you mean `f16`?"));
  CHECK(has(only_mistake(with("dram = \"64 MiB\"", "dram = \"1 KiB\"")), "at least 1.0 MiB"));
  CHECK(has(only_mistake(with("name = \"a\"", "name = \"a\"\ncontrol_port = 65536")), "9:16: "));
  CHECK(has(only_mistake(with("name = \"a\"", "name = \"a/b\"")), "`name` must be letters"));
  CHECK(has(only_mistake(with("name = \"a\"", "name = \"\"")), "`name` is empty"));
}

TEST_CASE_FIXTURE(cluster_fixture, "roles that a cluster cannot do without, or has once") {
  CHECK(has(only_mistake(with("\"decode\", \"gateway\"", "\"gateway\"")), "no node has the role decode"));
  CHECK(has(only_mistake(with("\"prefill\", \"storage\"", "\"prefill\", \"storage\", \"gateway\"")),
            "several nodes have the role gateway"));
  CHECK(has(only_mistake(with("dram = \"64 MiB\"\n", "")), "`dram` is missing"));
  CHECK(has(only_mistake(with("\"gateway\"]\n", "\"gateway\"]\ndram = \"1 MiB\"\n")),
            "`dram` is for nodes with the storage role"));
  CHECK(has(only_mistake(with("replicas = 1", "replicas = 2")), "only 1 of the nodes store"));
}

TEST_CASE_FIXTURE(cluster_fixture, "a file without nodes") {
  CHECK(has(only_mistake("model = \"model\"\n"), "`node` is missing"));
  CHECK(has(only_mistake("model = \"model\"\nnode = []\n"), "there is no node"));
  CHECK(has(only_mistake("model = \"model\"\nnode = 3\n"), "`node` must be a list"));
  CHECK(has(only_mistake("model = \"model\"\nnode = [3]\n"), "`node` must be a list of sections"));
}

TEST_CASE_FIXTURE(cluster_fixture, "the model folder must be there, where a node of this machine needs it") {
  CHECK(has(only_mistake(with("\"model\"", "\"nothing\"")), "1:9: `model`: no folder "));
  std::filesystem::remove(folder.path() / "model/config.json");
  CHECK(has(only_mistake(valid), "no config.json in "));
}

TEST_CASE_FIXTURE(cluster_fixture, "ports are used once") {
  const auto twice = with("name = \"a\"", "name = \"a\"\ncontrol_port = 7700\nfabric_port = 7700");
  CHECK(has(only_mistake(twice), "10:15: node \"a\": port 7700 of 127.0.0.1 is taken"));
  const auto gateways = with("name = \"a\"", "name = \"a\"\ncontrol_port = 7600");
  CHECK(has(only_mistake(gateways), "port 7600 is the gateway's already"));
}

TEST_CASE_FIXTURE(cluster_fixture, "hosts on the network need certificates, and a membership that is found") {
  CHECK(has(only_mistake(with("name = \"a\"", "name = \"a\"\nhost = \"node-a\"")), "is no IP address"));
  auto text = with("name = \"a\"", "name = \"a\"\nhost = \"192.0.2.1\"\ncontrol_port = 7700");
  CHECK(has(only_mistake(text), "add a [tls] section"));
  folder.write("tls/node.crt", "");
  folder.write("tls/node.key", "");
  folder.write("tls/ca.crt", "");
  REQUIRE(chmod((folder.path() / "tls/node.key").c_str(), 0600) == 0);
  text += "[tls]\ncertificate = \"tls/node.crt\"\nkey = \"tls/node.key\"\nauthority = \"tls/ca.crt\"\n";
  const auto checked = check(text);
  for (const auto& m : checked.mistakes)
    FAIL_CHECK(to_string("f", m));
  REQUIRE(checked.cluster);
  CHECK(checked.cluster->nodes[1].tls.key == folder.path() / "tls/node.key");
  CHECK(checked.cluster->nodes[1].candidates[0].host == "192.0.2.1");
  CHECK(checked.cluster->nodes[1].candidates[0].control_port == 7700);
  CHECK(checked.cluster->nodes_here().size() == 1);

  text.replace(text.find("control_port = 7700"), 19, "control_port = 0");
  CHECK(has(only_mistake(text), "the first node holds the membership"));
}

TEST_CASE_FIXTURE(cluster_fixture, "a mistake takes one line, whatever the file quotes") {
  CHECK(has(only_mistake("\"a\\nb\\u001b\" = 1\n" + std::string(valid)), "`a\\x0ab\\x1b`"));
}

TEST_CASE_FIXTURE(cluster_fixture, "certificates come as three, and secrets are nobody else's to read") {
  folder.write("x", "");
  REQUIRE(chmod((folder.path() / "x").c_str(), 0600) == 0);
  CHECK(has(only_mistake(std::string(valid) + "[tls]\ncertificate = \"x\"\nkey = \"x\"\n"),
            "tls: `authority` is missing"));
  const auto token = with("listen =", "token_file = \"x\"\nlisten =");
  CHECK(check(token).cluster);
  REQUIRE(chmod((folder.path() / "x").c_str(), 0644) == 0);
  CHECK(has(only_mistake(token), "others can read"));
  CHECK(has(only_mistake(with("listen =", "token_file = \"y\"\nlisten =")), "no file "));
  CHECK(has(only_mistake(with("127.0.0.1:7600", "0.0.0.0:7600")), "no `token_file` is named"));
}

TEST_CASE_FIXTURE(cluster_fixture, "timings fit each other") {
  const auto checked =
      check(std::string(valid) + "[timing]\nheartbeat_interval_ms = 50\nliveness_timeout_ms = 300\n");
  REQUIRE(checked.cluster);
  CHECK(checked.cluster->nodes[1].heartbeat_interval == std::chrono::milliseconds(50));
  CHECK(has(only_mistake(std::string(valid) + "[timing]\nliveness_timeout_ms = 400\n"), "at least twice"));
}

TEST_CASE_FIXTURE(cluster_fixture, "eviction, watermarks and quotas, for all nodes or one") {
  const auto checked =
      check(with("replicas = 1\n", "eviction = \"s3_fifo\"\nhigh_watermark_percent = 95\n") +
            "eviction = \"cost\"\nlow_watermark_percent = 50\n\n[quotas]\nteam = \"3 MiB\"\n");
  REQUIRE(checked.cluster);
  const auto& a = checked.cluster->nodes.at(0);
  const auto& b = checked.cluster->nodes.at(1);
  CHECK(a.eviction == weft::policies::eviction_kind::s3_fifo);
  CHECK(b.eviction == weft::policies::eviction_kind::cost);
  CHECK(a.high_watermark_percent == 95);
  CHECK(a.low_watermark_percent == 90);
  CHECK(b.low_watermark_percent == 50);
  CHECK(a.quota_bytes.at("team") == 3 << 20);

  CHECK(has(only_mistake(with("replicas = 1\n", "eviction = \"lre\"\n")), "did you mean `lru`"));
  CHECK(has(only_mistake(with("replicas = 1\n", "high_watermark_percent = 80\n")),
            "`low_watermark_percent` (90) must be less"));
  CHECK(has(only_mistake(std::string(valid) + "\n[quotas]\nteam = 3\n"), "must be text"));
}

TEST_CASE_FIXTURE(cluster_fixture, "what nodes that decode remember, and what is scored in the background") {
  const auto checked = check(with("replicas = 1\n", "background_importance = \"kvzip\"\n") +
                             "cache = \"32 MiB\"\ndocument_cache = \"16 MiB\"\nopening_cache = \"8 MiB\"\n");
  REQUIRE(checked.cluster);
  CHECK(checked.cluster->nodes[0].background_importance == "kvzip");
  CHECK(checked.cluster->nodes[1].cache_bytes == 32 << 20);
  CHECK(checked.cluster->nodes[1].base_bytes == 16 << 20);
  CHECK(checked.cluster->nodes[0].base_bytes == 0);
  CHECK(checked.cluster->nodes[1].opening_bytes == 8 << 20);
  CHECK(check(std::string(valid)).cluster->nodes[1].opening_bytes == 256 << 20);

  CHECK(has(only_mistake(with("replicas = 1\n", "background_importance = \"kvzop\"\n")), "kvzop"));
  CHECK(has(only_mistake(with("dram = \"64 MiB\"\n", "dram = \"64 MiB\"\ndocument_cache = \"16 MiB\"\n")),
            "`document_cache` is for nodes with the decode role"));
}

TEST_CASE_FIXTURE(cluster_fixture, "a namespace has a number of copies of its own, as many as nodes store") {
  const auto checked = check(std::string(valid) + "\n[namespaces.team]\nreplicas = 1\n");
  REQUIRE(checked.cluster);
  CHECK(checked.cluster->nodes.at(0).tenant_replicas.at("team") == 1);
  CHECK(has(only_mistake(std::string(valid) + "\n[namespaces.team]\nreplicas = 9\n"),
            "`replicas` of the namespace `team` is 9"));
  CHECK(has(only_mistake(std::string(valid) + "\n[namespaces.team]\nreplica = 1\n"),
            "did you mean `replicas`"));
  CHECK(!check(std::string(valid) + "\n[namespaces]\nteam = 2\n").cluster);
}

TEST_CASE_FIXTURE(cluster_fixture,
                  "decode nodes with one group's name are a group, in the order of the file") {
  const auto third = "\n[[node]]\nname = \"c\"\nroles = [\"decode\"]\ngroup = \"pair\"\n";
  const auto checked = check(with("\"gateway\"]\n", "\"gateway\"]\ngroup = \"pair\"\n") + third);
  REQUIRE(checked.cluster);
  CHECK(checked.cluster->nodes.at(0).group_nodes.empty());
  for (const auto i : {1, 2}) {
    CHECK(checked.cluster->nodes.at(i).group == "pair");
    CHECK(checked.cluster->nodes.at(i).group_nodes == std::vector<std::string>{"b", "c"});
  }
  const auto store = "\n[[node]]\nname = \"c\"\nroles = [\"storage\"]\ndram = \"8 MiB\"\ngroup = \"pair\"\n";
  CHECK(has(only_mistake(std::string(valid) + store), "`group` is for nodes with the decode role"));
  CHECK(has(only_mistake(with("\"gateway\"]", "\"gateway\", \"prefill\"]\ngroup = \"pair\"")),
            "needs all of it; give the prefill role to another node"));
  CHECK(has(only_mistake(with("\"gateway\"]", "\"gateway\"]\ngroup = \"\"")), "`group` is empty"));
  CHECK(has(only_mistake(with("\"gateway\"]", "\"gateway\"]\ngroup = \"p\"\ndocument_cache = \"8 MiB\"")),
            "remove the line `document_cache`"));
  CHECK(has(only_mistake(with("\"gateway\"]", "\"gateway\"]\ngroup = \"p\"\nopening_cache = \"8 MiB\"")),
            "remove the line `opening_cache`"));
}

TEST_CASE_FIXTURE(cluster_fixture, "a file tier has a folder and a size, and one node") {
  const auto tier =
      with("dram = \"64 MiB\"\n", "dram = \"64 MiB\"\nfile = \"tier\"\nfile_size = \"2 GiB\"\n");
  const auto checked = check(tier);
  REQUIRE(checked.cluster);
  CHECK(checked.cluster->nodes[0].file_folder == folder.path() / "tier");
  CHECK(checked.cluster->nodes[0].file_bytes == 2ULL << 30);
  CHECK(checked.cluster->nodes[1].file_folder.empty());

  CHECK(has(only_mistake(with("dram = \"64 MiB\"\n", "dram = \"64 MiB\"\nfile = \"tier\"\n")),
            "`file_size` is missing"));
  CHECK(has(only_mistake(tier + "file = \"b\"\nfile_size = \"1 GiB\"\n"), "storage role"));
  const auto twice = std::string(valid).replace(valid.find("[\"decode\""), 1, "[\"storage\", ") +
                     "dram = \"1 MiB\"\nfile = \"tier\"\nfile_size = \"1 GiB\"\n";
  CHECK(has(only_mistake(std::string(twice).replace(twice.find("dram"), 4,
                                                    "file = \"./tier\"\nfile_size = \"1 GiB\"\ndram")),
            "give each its own"));
}

TEST_CASE_FIXTURE(cluster_fixture, "a file that cannot be read") {
  const auto missing = read_cluster_file(folder.path() / "none.toml");
  REQUIRE(missing.mistakes.size() == 1);
  CHECK(has(to_string("none.toml", missing.mistakes[0]), "none.toml: no such cluster file"));
  CHECK(read_cluster_file(folder.path()).mistakes.size() == 1);
  const auto file = folder.write("cluster.toml", valid);
  CHECK(read_cluster_file(file).cluster);
}
