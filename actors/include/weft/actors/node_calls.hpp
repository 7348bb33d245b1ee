// What nodes ask of each other on the way of a block, as calls: of this very node by its own parts, of others
// by fabric messages. Any thread; answers come at once or later, on any thread.
#pragma once

#include <weft/actors/call_table.hpp>
#include <weft/actors/directory_shard.hpp>
#include <weft/actors/messages.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace weft::actors {

class block_store;

class node_calls {
 public:
  template <class Answer>
  using answered = std::function<void(result<Answer>)>;

  node_calls(const id128& self, std::shared_ptr<call_table> table, std::shared_ptr<directory_shard> shard)
      : self_(self), table_(std::move(table)), shard_(std::move(shard)) {}

  // Answers the others from now on; `store` may be null. Before the first connection.
  void serve(const std::shared_ptr<block_store>& store);

  // Blocks are ranked by that, on whatever thread it likes. Before the first connection.
  using ranking = std::function<void(retrieval_queries, answered<retrieval_scores>)>;
  void serve_ranking(ranking here);

  void rank(const id128& node, retrieval_queries asked, duration timeout, answered<retrieval_scores> done);
  void locate(const id128& node, std::vector<id128> keys, duration timeout, answered<locate_reply> done);
  void lease(const id128& node, lease_request wanted, duration timeout, answered<lease_reply> done);
  void release(const id128& node, std::uint64_t lease);
  void offer_to(const id128& node, offer what, duration timeout, answered<offer_reply> done);
  void announce(const id128& node, announcement news, duration timeout, answered<void> done);
  void withdraw(const id128& node, withdrawal gone, duration timeout, answered<void> done);
  // Read without asking: for the holder's eviction.
  void touch(const id128& node, key_list used);

  void adopt(const cluster_ptr& now) { table_->adopt(now); }
  // Ends what has run out of time.
  void expire() { table_->expire(); }

 private:
  void serve_directory();

  id128 self_;
  std::shared_ptr<call_table> table_;
  std::shared_ptr<directory_shard> shard_;
  std::weak_ptr<block_store> store_;
  ranking ranking_;  // null: this node ranks nothing
};

}  // namespace weft::actors
