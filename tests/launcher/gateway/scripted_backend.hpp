// A backend that answers from memory on a thread of its own, as a cluster would: late and from elsewhere.
#pragma once

#include <weft/client/client.hpp>
#include <weft/launcher/gateway/backend.hpp>
#include <weft/launcher/gateway/server.hpp>

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace weft::launcher::gateway::testing {

class scripted_backend final : public backend {
 public:
  scripted_backend();
  ~scripted_backend() override;

  // A question "hold" is answered only when cancelled; "fail" fails, and so does "alone", for want of a node;
  // any other is echoed word by word.
  void ask(ask_request request, call_context context, completion<ask_result> done) override;
  // A text "hold" is never done; progress is reported at each tenth.
  void ingest(ingest_request request, call_context context, completion<document_info> done) override;
  void documents(call_context context, completion<std::vector<document_info>> done) override;
  void drop(id128 document, call_context context, completion<void> done) override;
  void pin(id128 document, call_context context, completion<void> done) override;
  void unpin(id128 document, call_context context, completion<void> done) override;
  void lookup(std::vector<id128> keys, call_context context,
              completion<std::vector<block_info>> done) override;
  void put(block_put block, call_context context, completion<void> done) override;
  void get(id128 key, call_context context, completion<block_payload> done) override;
  void status(call_context context, completion<cluster_status> done) override;

  // Blocks until a call was told to stop.
  bool wait_for_cancellation();
  // Blocks until `count` calls are held.
  bool wait_for_held(std::size_t count);
  // Lets go of a held question without an answer.
  void forget_held();
  ask_request last_question();
  std::string text_of(id128 document);
  // Answers every held question.
  void answer_held();

 private:
  void later(std::function<void()> job);
  void set_pinned(id128 document, bool pinned, completion<void> done);
  void answer_question(const ask_request& request, const completion<ask_result>& done);

  struct stored_document {
    document_info info;
    std::string text;
  };

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::size_t cancelled_ = 0;
  ask_request last_question_;
  std::vector<completion<ask_result>> held_questions_;
  std::vector<completion<document_info>> held_documents_;
  std::vector<std::unique_ptr<std::stop_callback<std::function<void()>>>> watches_;
  std::map<id128, stored_document> documents_;
  std::map<id128, std::shared_ptr<const block_put>> blocks_;
  std::thread worker_;
};

// A server over a scripted backend and a way to connect to it.
struct running_gateway {
  explicit running_gateway(server_options options = {});

  std::shared_ptr<scripted_backend> backend = std::make_shared<scripted_backend>();
  std::unique_ptr<gateway::server> server;

  client::connection connect(client::options how = {}) const;
};

}  // namespace weft::launcher::gateway::testing
