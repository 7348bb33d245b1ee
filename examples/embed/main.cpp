// A program with an actor system of its own that hosts a weft node with all roles, hands it a document and
// asks a question.
//
//   weft_embed MODEL_FOLDER DOCUMENT_FILE QUESTION
#include <weft/actors/node.hpp>
#include <weft/actors/system_config.hpp>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

using namespace std::chrono_literals;
namespace actors = weft::actors;

namespace {

std::string text_of(const char* file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

actors::node_config config_for(const char* model_folder) {
  actors::node_config config;
  config.name = "embedded";
  config.roles = {actors::role::prefill, actors::role::storage, actors::role::decode, actors::role::gateway};
  config.model_folder = model_folder;
  config.dram_bytes = 64 << 20;
  config.run_folder = std::filesystem::current_path();
  return config;
}

// What an actor of this program would do with `request(...).then(...)`.
void ask(caf::actor_system& system, const actors::node& node, const std::string& document,
         const std::string& text) {
  caf::scoped_actor self{system};
  const auto complain = [&](const caf::error& e) {
    std::cerr << "weft_embed: " << system.render(e) << std::endl;
  };
  actors::question question;
  question.text = text;
  self->request(node.gateway(), 60s, actors::encode_atom_v, std::string("document"),
                std::make_shared<const std::string>(document))
      .receive([&](const actors::document_summary& stored) { question.documents = {stored.id}; }, complain);
  if (question.documents.empty()) return;
  self->request(node.gateway(), 60s, actors::ask_atom_v, question, actors::answer_listener{})
      .receive([](const actors::answer& answer) { std::cout << answer.text << std::endl; }, complain);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: weft_embed MODEL_FOLDER DOCUMENT_FILE QUESTION" << std::endl;
    return 2;
  }
  caf::actor_system_config system_config;
  actors::prepare(system_config, {});
  caf::actor_system system{system_config};

  const auto node = actors::node::start(system, config_for(argv[1]));
  if (!node) {
    std::cerr << "weft_embed: " << node.error().context << std::endl;
    return 1;
  }
  if (const auto ready = (*node)->wait_until_ready(30s); !ready) {
    std::cerr << "weft_embed: " << ready.error().context << std::endl;
    return 1;
  }
  ask(system, **node, text_of(argv[2]), argv[3]);
  return 0;
}
