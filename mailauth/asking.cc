#include "mailauth/asking.h"

namespace postrider::mailauth {

std::string_view to_string(Type type) {
  switch (type) {
    case Type::txt:
      return "TXT";
    case Type::a:
      return "A";
    case Type::aaaa:
      return "AAAA";
    case Type::mx:
      return "MX";
    case Type::ptr:
      return "PTR";
  }
  return "?";
}

Answer Answer::none(Status status) {
  Answer answer;
  answer.status = status;
  return answer;
}

Answer Answer::failure(std::string reason) {
  Answer answer;
  answer.reason = std::move(reason);
  return answer;
}

std::vector<Questions::Posed> Questions::take() {
  std::vector<Posed> posed;
  for (auto open = open_.lower_bound(first_untaken_); open != open_.end(); ++open)
    posed.push_back({open->first, open->second.question});
  first_untaken_ = next_id_;
  return posed;
}

void Questions::answer(std::uint64_t id, Answer answer) {
  const auto found = open_.find(id);
  if (found == open_.end())
    return;
  const Open open = found->second;
  open_.erase(found);
  open.waiter->answers[open.place] = std::move(answer);
  if (--open.waiter->missing == 0)
    open.waiter->coroutine.resume();
}

void Questions::give_up(std::string reason) {
  gave_up_ = std::move(reason);
  while (!open_.empty())
    answer(open_.begin()->first, Answer::failure(*gave_up_));
}

bool Questions::pose(std::vector<Question> questions, Waiter& waiter) {
  waiter.answers.assign(questions.size(), Answer::failure(gave_up_.value_or(std::string())));
  if (gave_up_)
    return false;
  waiter.missing = questions.size();
  asked_ += questions.size();
  for (std::size_t place = 0; place < questions.size(); ++place)
    open_.emplace(next_id_++, Open{std::move(questions[place]), &waiter, place});
  return true;
}

Ask ask(Question question) {
  std::vector<Question> questions;
  questions.push_back(std::move(question));
  return Ask(std::move(questions));
}

AskAll ask_all(std::vector<Question> questions) {
  return AskAll(std::move(questions));
}

}  // namespace postrider::mailauth
