// What the demo says about its answers.
#pragma once

#include <weft/client/client.hpp>

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace weft::launcher {

struct demo_answer {
  std::string question;
  std::string expected;
  client::ask_result stitched;    // documents out of the pool
  client::ask_result recomputed;  // the same question with everything computed anew
  std::string local;              // the answer of one process without a cluster
};

// Spaces around an answer do not count.
bool is_correct(const demo_answer& a);
bool same_as_local(const demo_answer& a);

void print_answer(std::ostream& out, const demo_answer& a);
void print_summary(std::ostream& out, const std::vector<demo_answer>& answers);
nlohmann::json demo_document(const std::vector<demo_answer>& answers);

}  // namespace weft::launcher
