"""A week in words, every Monday: a feature of the plan "pro"."""

from datetime import UTC, datetime, timedelta

from firelaunch import Collection, JobDone, JobRun, Message, Record, crud, enqueue, job
from pydantic import BaseModel, Field

from .meals import meals


class Summary(Record):
    """What a user ate in some days, in words."""

    text: str
    kcal: int
    days: int


summaries = Collection("summaries", Summary, owner="user")
routes = crud(summaries, only=("list", "get"), feature="summaries")


class SummaryOptions(BaseModel):
    """What to sum up. The schedule takes the defaults."""

    days: int = Field(default=7, ge=1, le=31)


class Started(BaseModel):
    """A job that was started; `GET /v1/jobs/{id}` follows it."""

    job: str


@job("weekly_summary", seconds=120)
def weekly_summary(run: JobRun, options: SummaryOptions) -> JobDone | None:
    """Sum up a user's last days. A run that comes again after a crash keeps nothing twice."""
    if "summaries" not in run.features or run.data(summaries).find(run.id):
        return None
    first = datetime.now(UTC).date() - timedelta(days=options.days)
    eaten = run.data(meals).list({"day >=": first}, order="day", limit=500).items
    if not eaten:
        return None
    diary = "\n".join(f"{meal.day} {meal.kind}: {meal.name}, {meal.kcal} kcal" for meal in eaten)
    instructions: Message = {"role": "system", "content": run.prompt("summary")}
    messages: list[Message] = [instructions, {"role": "user", "content": diary}]
    text = run.services.llm.complete(messages, prompt="summary", model="cheap", purpose="weekly_summary").data
    summary = Summary(text=text, kcal=sum(meal.kcal for meal in eaten), days=options.days)
    run.data(summaries).add(summary, id=run.id)
    return JobDone({"summary": run.id})


@routes.post("/summaries", status=202, feature="summaries")
def start() -> Started:
    """Have the last seven days summed up now."""
    return Started(job=enqueue(weekly_summary).id)
