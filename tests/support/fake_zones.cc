#include "tests/support/fake_zones.h"

#include "base/text.h"
#include "mailauth/reverse_name.h"

#include <algorithm>
#include <optional>
#include <sstream>
#include <stdexcept>

namespace postrider::tests {

using mailauth::Answer;
using mailauth::Question;
using mailauth::Type;

namespace {

constexpr int kMostLinks = 10;

std::string canonical(std::string_view name) {
  std::string text = ascii_lower(name);
  if (text.ends_with('.'))
    text.pop_back();
  return text;
}

// A comment starts at a ';' outside quotes.
std::string without_comment(const std::string& line) {
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\')
      ++i;
    else if (line[i] == '"')
      quoted = !quoted;
    else if (line[i] == ';' && !quoted)
      return line.substr(0, i);
  }
  return line;
}

std::string quoted_strings(const std::string& value) {
  std::string text;
  bool inside = false;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '\\' && i + 3 < value.size() && value[i + 1] >= '0' && value[i + 1] <= '9') {
      text += static_cast<char>(std::stoi(value.substr(i + 1, 3)));
      i += 3;
    } else if (value[i] == '\\' && i + 1 < value.size()) {
      text += value[++i];
    } else if (value[i] == '"') {
      inside = !inside;
    } else if (inside) {
      text += value[i];
    }
  }
  return text;
}

// "a\032b" is a name with a space.
std::string without_escapes(const std::string& name) {
  std::string text;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '\\' && i + 3 < name.size()) {
      text += static_cast<char>(std::stoi(name.substr(i + 1, 3)));
      i += 3;
    } else {
      text += name[i];
    }
  }
  return text;
}

std::optional<Type> type_named(const std::string& name) {
  for (const auto type : {Type::txt, Type::a, Type::aaaa, Type::mx, Type::ptr})
    if (name == to_string(type))
      return type;
  return std::nullopt;
}

Answer answer_of(Type type, const std::vector<std::string>& values) {
  Answer answer;
  answer.status = Answer::Status::found;
  std::multimap<int, std::string> exchanges;  // by preference
  for (const auto& value : values) {
    if (type == Type::txt) {
      answer.texts.push_back(value);
    } else if (type == Type::mx) {
      const auto space = value.find(' ');
      const auto host = canonical(trim(value.substr(std::min(space, value.size()))));
      exchanges.emplace(std::stoi(value), host);
    } else if (type == Type::ptr) {
      answer.hosts.push_back(canonical(value));
    } else {
      answer.addresses.push_back(IpAddress::parse(value).value());
    }
  }
  for (auto& exchange : exchanges)
    answer.hosts.push_back(std::move(exchange.second));
  return answer;
}

}  // namespace

FakeZones::FakeZones(std::string_view zone) {
  add(zone);
}

void FakeZones::add(std::string_view zone) {
  for (const auto line : split(zone, '\n'))
    add_line(std::string(line));
}

void FakeZones::add_line(const std::string& line) {
  std::istringstream in(without_comment(line));
  std::string name, type, value;
  if (!(in >> name))
    return;
  in >> type;
  std::getline(in, value);
  value = trim(value);
  if (const auto address = IpAddress::parse(name); address && type == "PTR")
    name = mailauth::reverse_name(*address);
  name = canonical(without_escapes(name));
  names_.insert(name);
  if (type == "EXISTS")
    return;
  if (type == "FAILS") {
    failing_names_.insert(name);
    return;
  }
  if (type == "CNAME") {
    aliases_[name] = canonical(value);
    return;
  }
  const auto known = type_named(type);
  if (!known || value.empty())
    throw std::invalid_argument("zone line: " + line);
  records_[{name, *known}].push_back(known == Type::txt ? quoted_strings(value) : value);
}

void FakeZones::add_text(const std::string& name, std::string text) {
  add_record(name, Type::txt, std::move(text));
}

void FakeZones::add_record(const std::string& name, Type type, std::string value) {
  names_.insert(canonical(name));
  records_[{canonical(name), type}].push_back(std::move(value));
}

void FakeZones::add_alias(const std::string& name, const std::string& target) {
  names_.insert(canonical(name));
  aliases_[canonical(name)] = canonical(target);
}

void FakeZones::add_failing(const std::string& name) {
  names_.insert(canonical(name));
  failing_names_.insert(canonical(name));
}

void FakeZones::fail(const std::string& name, Type type) {
  names_.insert(canonical(name));
  failing_.insert({canonical(name), type});
}

bool FakeZones::exists(const std::string& name) const {
  return names_.count(name) > 0 ||
         std::any_of(names_.begin(), names_.end(),
                     [&](const auto& other) { return other.ends_with("." + name); });
}

Answer FakeZones::look_up(const Question& question) {
  std::string name = canonical(question.name);
  asked_.push_back(std::string(to_string(question.type)) + " " + name);
  for (int links = 0; links <= kMostLinks; ++links) {
    if (failing_names_.count(name) > 0 || failing_.count({name, question.type}) > 0)
      return Answer::failure("SERVFAIL for " + name);
    if (const auto found = records_.find({name, question.type}); found != records_.end())
      return answer_of(question.type, found->second);
    const auto alias = aliases_.find(name);
    if (alias == aliases_.end())
      return Answer::none(links > 0 || exists(name) ? Answer::Status::no_data
                                                    : Answer::Status::no_name);
    name = alias->second;
  }
  return Answer::failure("too many aliases at " + name);
}

void FakeZones::serve(mailauth::Questions& questions) {
  std::vector<mailauth::Questions::Posed> waiting;
  while (!questions.done()) {
    for (auto& posed : questions.take())
      waiting.push_back(std::move(posed));
    const auto next = latest_first_ ? waiting.end() - 1 : waiting.begin();
    const auto posed = *next;
    waiting.erase(next);
    questions.answer(posed.id, look_up(posed.question));
  }
}

}  // namespace postrider::tests
