variable "project" {
  description = "As the root's variable of this name."
  type = object({
    id         = string
    region     = string
    apis       = list(string)
    repository = string
    builder = object({
      account = string
      title   = string
      roles = list(object({
        role      = string
        condition = optional(object({ title = string, expression = string }))
      }))
    })
    databases = map(any)
    topics    = list(string)
    publisher = string
    alert     = object({ name = string, amount = number, thresholds = list(number) })
    deployer  = object({ account = string, roles = list(string), apis = list(string) })
  })
}

variable "github_repository" {
  description = "As the root's variable of this name."
  type        = object({ id = string, owner_id = string, tags = optional(bool, false) })
}

variable "billing_account" {
  description = "As the root's variable of this name."
  type        = string
}

output "number" {
  description = "The project's number, which addresses of Cloud Run have."
  value       = data.google_project.this.number
}

output "workload_identity_provider" {
  description = "The provider's whole name."
  value       = var.github_repository == null ? null : google_iam_workload_identity_pool_provider.github[var.github_repository.id].name
}
