// Document manifests in the pool: opaque blocks under a key that follows from the document's id.
#pragma once

#include <weft/actors/errors.hpp>
#include <weft/actors/work.hpp>
#include <weft/schema/manifest.hpp>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace weft::actors {

using manifest_ptr = std::shared_ptr<const schema::manifest>;

// Puts the manifest into staging as a finished block. `out_of_space` where there is no room.
result<block_to_write> stage_manifest(const schema::manifest& m, staging& room);

// Out of a verified block, as `stage_manifest` made it.
result<manifest_ptr> open_manifest(std::span<const std::byte> block);

// Of its blocks and of all that belongs to them rather than to the document: what each is ranked by, and
// their index. Not all of these need be there.
std::vector<id128> keys_with_blocks(const schema::manifest& m);

// What was read once stays true until the document is dropped, or scored in the background.
class manifest_cache {
 public:
  manifest_ptr find(const id128& document) const {
    const auto found = known_.find(document);
    return found == known_.end() ? nullptr : found->second;
  }
  // By the manifest's own key.
  manifest_ptr find_stored(const id128& manifest_key) const {
    const auto found = documents_.find(manifest_key);
    return found == documents_.end() ? nullptr : find(found->second);
  }
  void insert(manifest_ptr m) {
    if (known_.size() >= most) erase(id128{known_.begin()->first});
    documents_[policies::manifest_key(m->document)] = m->document;
    known_[m->document] = std::move(m);
  }
  void erase(const id128& document) {
    if (known_.erase(document) > 0) documents_.erase(policies::manifest_key(document));
  }

 private:
  static constexpr std::size_t most = 4096;
  std::map<id128, manifest_ptr> known_;
  std::map<id128, id128> documents_;  // by manifest key, of those that are known
};

// Reads the manifests of `documents`; `done` gets one result per document. What the cache has is not read
// again.
template <class Self>
void read_manifests(Self self, manifest_cache& cache, const pool_actor& pool, const id128& fingerprint,
                    duration timeout, const std::vector<id128>& documents,
                    std::function<void(std::vector<result<manifest_ptr>>)> done) {
  auto results = std::make_shared<std::vector<result<manifest_ptr>>>(documents.size(), manifest_ptr{});
  auto missing = std::make_shared<std::vector<std::size_t>>();
  read_order order{.keys = {}, .fingerprint = fingerprint, .timeout = timeout};
  for (std::size_t i = 0; i < documents.size(); ++i) {
    (*results)[i] = cache.find(documents[i]);
    if (*(*results)[i]) continue;
    missing->push_back(i);
    order.keys.push_back(policies::manifest_key(documents[i]));
  }
  if (missing->empty()) return done(std::move(*results));
  self->request(pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [results, missing, documents, &cache, done](const read_outcome& read) {
            for (std::size_t i = 0; i < missing->size(); ++i) {
              const auto& block = read->blocks[i];
              const auto& document = documents[(*missing)[i]];
              auto& result = (*results)[(*missing)[i]];
              if (!block.outcome) {
                const bool unknown = block.outcome.error().code == errc::not_found;
                result = unknown ? fail(errc::not_found,
                                        "no document " + to_hex(document) + "; `weft documents` lists them")
                                 : fail(block.outcome.error().code,
                                        "document " + to_hex(document) +
                                            ": no holder of its manifest "
                                            "answered in time; try again, or ingest it anew");
                continue;
              }
              result = open_manifest(block.bytes->bytes());
              if (result) cache.insert(*result);
            }
            done(std::move(*results));
          },
          [results, missing, done](const caf::error& e) {
            for (const auto i : *missing)
              (*results)[i] = tl::make_unexpected(from_caf(e, "reading manifests"));
            done(std::move(*results));
          });
}

}  // namespace weft::actors
