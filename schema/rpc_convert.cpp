#include <weft/schema/rpc_convert.hpp>

#include <cmath>

namespace weft::schema {
namespace {

// kj strings end with a NUL of their own; std::string guarantees the same.
capnp::Text::Reader text(const std::string& s) {
  return {s.data(), s.size()};
}
std::string text(capnp::Text::Reader s) {
  return {s.begin(), s.size()};
}

std::vector<std::string> texts(capnp::List<capnp::Text>::Reader from) {
  std::vector<std::string> values;
  values.reserve(from.size());
  for (const auto element : from)
    values.push_back(text(element));
  return values;
}

void texts(const std::vector<std::string>& values, capnp::List<capnp::Text>::Builder to) {
  for (auto i = 0u; i < to.size(); ++i)
    to.set(i, text(values[i]));
}

template <class Number, class List>
std::vector<Number> numbers(const List& from) {
  std::vector<Number> values;
  values.reserve(from.size());
  for (const auto value : from)
    values.push_back(value);
  return values;
}

template <class Number, class List>
void numbers(const std::vector<Number>& values, List to) {
  for (auto i = 0u; i < to.size(); ++i)
    to.set(i, values[i]);
}

unsigned count(const auto& values) {
  return static_cast<unsigned>(values.size());
}

// Not given is written as a negative number.
constexpr double no_ratio = -1;
std::optional<double> ratio(double value) {
  return value < 0 ? std::nullopt : std::optional(value);
}

}  // namespace

transfer_info read(wire::Transfer::Reader from) {
  return {text(from.getHolder()), text(from.getTransport()), text(from.getPath()), from.getBytes()};
}

void write(const transfer_info& value, wire::Transfer::Builder to) {
  to.setHolder(text(value.holder));
  to.setTransport(text(value.transport));
  to.setPath(text(value.path));
  to.setBytes(value.bytes);
}

pool_use read(wire::PoolUse::Reader from) {
  return {from.getUsedBytes(), from.getCapacityBytes()};
}

void write(const pool_use& value, wire::PoolUse::Builder to) {
  to.setUsedBytes(value.used_bytes);
  to.setCapacityBytes(value.capacity_bytes);
}

peer_info read(wire::Peer::Reader from) {
  return {text(from.getName()), text(from.getTransport()), text(from.getPath()), from.getGbPerS()};
}

void write(const peer_info& value, wire::Peer::Builder to) {
  to.setName(text(value.name));
  to.setTransport(text(value.transport));
  to.setPath(text(value.path));
  to.setGbPerS(value.gb_per_s);
}

counter read(wire::Counter::Reader from) {
  return {text(from.getName()), from.getValue()};
}

void write(const counter& value, wire::Counter::Builder to) {
  to.setName(text(value.name));
  to.setValue(value.value);
}

node_status read(wire::NodeStatus::Reader from) {
  node_status value;
  value.name = text(from.getName());
  value.pid = from.getPid();
  value.alive = from.getAlive();
  value.incarnation = from.getIncarnation();
  value.roles = texts(from.getRoles());
  value.dram = read(from.getDram());
  value.file = read(from.getFile());
  value.peers = read_list<peer_info>(from.getPeers());
  value.counters = read_list<counter>(from.getCounters());
  return value;
}

void write(const node_status& value, wire::NodeStatus::Builder to) {
  to.setName(text(value.name));
  to.setPid(value.pid);
  to.setAlive(value.alive);
  to.setIncarnation(value.incarnation);
  texts(value.roles, to.initRoles(count(value.roles)));
  write(value.dram, to.initDram());
  write(value.file, to.initFile());
  write_list(value.peers, to.initPeers(count(value.peers)));
  write_list(value.counters, to.initCounters(count(value.counters)));
}

kj::ArrayPtr<const kj::byte> to_data(std::string_view bytes) {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

std::string to_string(capnp::Data::Reader bytes) {
  return {reinterpret_cast<const char*>(bytes.begin()), bytes.size()};
}

id128 read(wire::Id128::Reader from) {
  return {from.getHigh(), from.getLow()};
}

void write(const id128& value, wire::Id128::Builder to) {
  to.setHigh(value.high);
  to.setLow(value.low);
}

document_info read(wire::DocumentInfo::Reader from) {
  document_info value;
  value.id = read(from.getId());
  value.name = to_string(from.getName());
  value.tokens = from.getTokens();
  value.blocks = from.getBlocks();
  value.bytes = from.getBytes();
  value.holders = texts(from.getHolders());
  value.importance = text(from.getImportance());
  value.band_ratios = numbers<double>(from.getBandRatios());
  value.ms = from.getMs();
  value.pinned = from.getPinned();
  value.served_ratio = from.getServedRatio();
  value.band_bytes = numbers<std::uint64_t>(from.getBandBytes());
  return value;
}

void write(const document_info& value, wire::DocumentInfo::Builder to) {
  write(value.id, to.initId());
  to.setName(to_data(value.name));
  to.setTokens(value.tokens);
  to.setBlocks(value.blocks);
  to.setBytes(value.bytes);
  texts(value.holders, to.initHolders(count(value.holders)));
  to.setImportance(text(value.importance));
  numbers(value.band_ratios, to.initBandRatios(count(value.band_ratios)));
  to.setMs(value.ms);
  to.setPinned(value.pinned);
  to.setServedRatio(value.served_ratio);
  if (!value.band_bytes.empty()) numbers(value.band_bytes, to.initBandBytes(count(value.band_bytes)));
}

ingest_request read(wire::IngestRequest::Reader from) {
  ingest_request value;
  value.name = to_string(from.getName());
  value.importance = text(from.getImportance());
  value.ratio = ratio(from.getRatio());
  value.bands = numbers<double>(from.getBands());
  value.codecs = texts(from.getCodecs());
  return value;
}

void write(const ingest_request& value, wire::IngestRequest::Builder to) {
  to.setName(to_data(value.name));
  to.setTextBytes(value.text.size());
  to.setImportance(text(value.importance));
  to.setRatio(value.ratio.value_or(no_ratio));
  if (!value.bands.empty()) numbers(value.bands, to.initBands(count(value.bands)));
  if (!value.codecs.empty()) texts(value.codecs, to.initCodecs(count(value.codecs)));
}

// Of a kind that came later nothing is known: an empty text, which is refused as such.
static prompt_part read(wire::PromptPart::Reader from) {
  if (from.isDocument()) return read(from.getDocument());
  return from.isText() ? to_string(from.getText()) : std::string();
}

static void write(const prompt_part& value, wire::PromptPart::Builder to) {
  if (const auto* document = std::get_if<id128>(&value))
    write(*document, to.initDocument());
  else
    to.setText(to_data(std::get<std::string>(value)));
}

ask_request read(wire::GenerateRequest::Reader from) {
  ask_request value;
  value.question = to_string(from.getQuestion());
  value.documents = read_list<id128>(from.getDocuments());
  value.system = to_string(from.getSystem());
  value.stitch = text(from.getStitch());
  value.retrieval = text(from.getRetrieval());
  value.ratio = ratio(from.getRatio());
  value.max_tokens = from.getMaxTokens();
  value.temperature = from.getTemperature();
  value.top_p = from.getTopP();
  value.seed = from.getSeed();
  value.sparse_ratio = ratio(from.getSparseRatio());
  value.retrieve = from.getRetrieve();
  value.stride = from.getStride();
  value.scale = text(from.getScale());
  value.judge = text(from.getJudge());
  if (!std::isnan(from.getThreshold())) value.threshold = from.getThreshold();
  for (const auto part : from.getParts())
    value.parts.push_back(read(part));
  return value;
}

void write(const ask_request& value, wire::GenerateRequest::Builder to) {
  to.setQuestion(to_data(value.question));
  write_list(value.documents, to.initDocuments(count(value.documents)));
  to.setSystem(to_data(value.system));
  to.setStitch(text(value.stitch));
  to.setRetrieval(text(value.retrieval));
  to.setRatio(value.ratio.value_or(no_ratio));
  to.setMaxTokens(value.max_tokens);
  to.setTemperature(value.temperature);
  to.setTopP(value.top_p);
  to.setSeed(value.seed);
  to.setSparseRatio(value.sparse_ratio.value_or(no_ratio));
  to.setRetrieve(value.retrieve);
  to.setStride(value.stride);
  if (!value.scale.empty()) to.setScale(text(value.scale));
  if (!value.judge.empty()) to.setJudge(text(value.judge));
  if (value.threshold) to.setThreshold(*value.threshold);
  if (value.parts.empty()) return;
  auto parts = to.initParts(count(value.parts));
  for (auto i = 0u; i < parts.size(); ++i)
    write(value.parts[i], parts[i]);
}

token_piece read(wire::TokenPiece::Reader from) {
  return {from.getId(), to_string(from.getText())};
}

void write(const token_piece& value, wire::TokenPiece::Builder to) {
  to.setId(value.id);
  to.setText(to_data(value.text));
}

static sparse_info read(wire::Sparse::Reader from) {
  return {from.getMiddleBlocks(),  from.getChosenBlocks(), from.getRetrievalNodes(),
          from.getRankings(),      from.getBlocksMoved(),  from.getLateFetches(),
          from.getStaleRankings(), from.getBlocksLost(),   from.getCacheBytes()};
}

static void write(const sparse_info& value, wire::Sparse::Builder to) {
  to.setMiddleBlocks(value.middle_blocks);
  to.setChosenBlocks(value.chosen_blocks);
  to.setRetrievalNodes(value.retrieval_nodes);
  to.setRankings(value.rankings);
  to.setBlocksMoved(value.blocks_moved);
  to.setLateFetches(value.late_fetches);
  to.setStaleRankings(value.stale_rankings);
  to.setBlocksLost(value.blocks_lost);
  to.setCacheBytes(value.cache_bytes);
}

retrieved_document read(wire::RetrievedDocument::Reader from) {
  return {read(from.getId()), to_string(from.getName()), from.getScore()};
}

void write(const retrieved_document& value, wire::RetrievedDocument::Builder to) {
  write(value.id, to.initId());
  to.setName(to_data(value.name));
  to.setScore(value.score);
}

ask_result read(wire::GenerateResult::Reader from) {
  ask_result value;
  value.answer = to_string(from.getAnswer());
  value.tokens = numbers<std::int32_t>(from.getTokens());
  value.prompt_tokens = from.getPromptTokens();
  value.recomputed_rows = from.getRecomputedRows();
  value.ttft_ms = from.getTtftMs();
  value.load_ms = from.getLoadMs();
  value.rotate_ms = from.getRotateMs();
  value.compute_ms = from.getComputeMs();
  value.decode_tokens_per_s = from.getDecodeTokensPerS();
  value.transfers = read_list<transfer_info>(from.getTransfers());
  value.misses = from.getMisses();
  value.cache_bytes = from.getCacheBytes();
  value.full_bytes = from.getFullBytes();
  if (from.hasSparse()) value.sparse = read(from.getSparse());
  value.retrieved = read_list<retrieved_document>(from.getRetrieved());
  value.ranked_documents = from.getRankedDocuments();
  value.unranked_documents = from.getUnrankedDocuments();
  value.retrieve_ms = from.getRetrieveMs();
  value.judged_rows = from.getJudgedRows();
  value.dropped_rows = from.getDroppedRows();
  value.computed_rows = from.getComputedRows();
  value.reused_rows = from.getReusedRows();
  return value;
}

void write(const ask_result& value, wire::GenerateResult::Builder to) {
  to.setAnswer(to_data(value.answer));
  numbers(value.tokens, to.initTokens(count(value.tokens)));
  to.setPromptTokens(value.prompt_tokens);
  to.setRecomputedRows(value.recomputed_rows);
  to.setTtftMs(value.ttft_ms);
  to.setLoadMs(value.load_ms);
  to.setRotateMs(value.rotate_ms);
  to.setComputeMs(value.compute_ms);
  to.setDecodeTokensPerS(value.decode_tokens_per_s);
  write_list(value.transfers, to.initTransfers(count(value.transfers)));
  to.setMisses(value.misses);
  to.setCacheBytes(value.cache_bytes);
  to.setFullBytes(value.full_bytes);
  if (value.sparse) write(*value.sparse, to.initSparse());
  if (!value.retrieved.empty()) write_list(value.retrieved, to.initRetrieved(count(value.retrieved)));
  to.setRankedDocuments(value.ranked_documents);
  to.setUnrankedDocuments(value.unranked_documents);
  to.setRetrieveMs(value.retrieve_ms);
  to.setJudgedRows(value.judged_rows);
  to.setDroppedRows(value.dropped_rows);
  to.setComputedRows(value.computed_rows);
  to.setReusedRows(value.reused_rows);
}

block_layout read(wire::BlockLayout::Reader from) {
  return {to_string(from.getDescriptor()), read(from.getFingerprint()), from.getTokens()};
}

void write(const block_layout& value, wire::BlockLayout::Builder to) {
  to.setDescriptor(to_data(value.descriptor));
  write(value.fingerprint, to.initFingerprint());
  to.setTokens(value.tokens);
}

block_info read(wire::BlockInfo::Reader from) {
  return {read(from.getKey()), from.getPresent(), from.getBytes(), texts(from.getHolders())};
}

void write(const block_info& value, wire::BlockInfo::Builder to) {
  write(value.key, to.initKey());
  to.setPresent(value.present);
  to.setBytes(value.bytes);
  texts(value.holders, to.initHolders(count(value.holders)));
}

cluster_status read(wire::ClusterStatus::Reader from) {
  return {from.getEpoch(), read_list<node_status>(from.getNodes())};
}

void write(const cluster_status& value, wire::ClusterStatus::Builder to) {
  to.setEpoch(value.epoch);
  write_list(value.nodes, to.initNodes(count(value.nodes)));
}

}  // namespace weft::schema
