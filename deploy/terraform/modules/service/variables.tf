variable "name" {
  description = "The service's name; an app's is its id."
  type        = string
}

variable "project" {
  description = "Id of the project."
  type        = string
}

variable "region" {
  description = "Region of its queue and its Scheduler job."
  type        = string
}

variable "project_number" {
  description = "The project's number, which addresses of Cloud Run have."
  type        = string
}

variable "service" {
  description = "As one of the root's variable services."
  type = object({
    title   = string
    account = string
    roles = list(object({
      role      = string
      condition = optional(object({ title = string, expression = string }))
    }))
    secrets = map(string)
    work = optional(object({
      queue   = string
      account = string
      title   = string
      roles = list(object({
        role      = string
        condition = optional(object({ title = string, expression = string }))
      }))
      schedules = list(object({ name = string, cron = string, url = string, path = string, deadline = string }))
      uploads   = optional(object({ topic = string, subscription = string, filter = string, url = string, path = string }))
    }))
  })
}

variable "settings" {
  description = "As the root's variable of this name."
  type = object({
    queue         = object({ max_attempts = number, min_backoff = string, max_backoff = string })
    uploads       = object({ ack_seconds = number, retention = string, min_backoff = string, max_backoff = string })
    secret_reader = string
    enqueuer      = string
    account_user  = string
  })
}
