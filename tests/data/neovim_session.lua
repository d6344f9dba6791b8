-- An editing session without a screen, in any Neovim from 0.7 on. Environment: GRADLINT_PYTHON, GRADLINT_ROOT.
-- Writes what it saw, as JSON, to the file in GRADLINT_SEEN.
local root, python = vim.env.GRADLINT_ROOT, vim.env.GRADLINT_PYTHON
local seen = {}
local exited
local client = vim.lsp.start_client({
  name = "gradlint",
  cmd = { python, "-m", "gradlint", "server" },
  root_dir = root,
  workspace_folders = { { uri = vim.uri_from_fname(root), name = "project" } },
  on_exit = function(code)
    exited = code
  end,
})

local function open(name)
  vim.cmd("edit " .. root .. "/" .. name)
  vim.bo.filetype = "python"
  local buffer = vim.api.nvim_get_current_buf()
  vim.lsp.buf_attach_client(buffer, client)
  return buffer
end

local function codes(buffer)
  local found = {}
  for _, diagnostic in ipairs(vim.diagnostic.get(buffer)) do
    table.insert(found, { diagnostic.code or diagnostic.user_data.lsp.code, diagnostic.lnum, diagnostic.col, diagnostic.end_col })
  end
  return found
end

local function wait(what, condition)
  if not vim.wait(20000, condition, 10) then
    error("waited in vain for " .. what)
  end
end

local ok, problem = pcall(function()
  local model = open("model.py")
  wait("the first finding", function()
    return #codes(model) == 1
  end)
  seen.first = codes(model)
  -- a burst of edits, with characters beyond the first plane before the fault
  local line = seen.first[1][2]
  local text = vim.api.nvim_buf_get_lines(model, line, line + 1, false)[1]
  local prefix = "        '🙂🙂'; "
  for _, stretch in ipairs({ "        '🙂'; ", "        '🙂é'; ", prefix }) do
    vim.api.nvim_buf_set_lines(model, line, line + 1, false, { stretch .. vim.trim(text) })
  end
  wait("the finding behind the emoji", function()
    local found = codes(model)[1]
    return found and found[3] > seen.first[1][3]
  end)
  seen.shift = codes(model)[1][3] - seen.first[1][3]
  seen.expected = #prefix - 8
  -- the quick fix
  local params = {
    textDocument = vim.lsp.util.make_text_document_params(model),
    range = { start = { line = line, character = 0 }, ["end"] = { line = line, character = 200 } },
    context = { diagnostics = {}, only = { "quickfix" } },
  }
  local answers = vim.lsp.buf_request_sync(model, "textDocument/codeAction", params, 20000)
  local action
  for _, answer in pairs(answers) do
    action = answer.result[1]
  end
  seen.title = action.title
  vim.lsp.util.apply_workspace_edit(action.edit, vim.lsp.get_client_by_id(client).offset_encoding)
  seen.fixed = vim.api.nvim_buf_get_lines(model, line, line + 1, false)[1]
  wait("silence", function()
    return #codes(model) == 0
  end)
  -- another file
  local helper = open("helper.py")
  vim.api.nvim_buf_set_lines(helper, 3, 3, false, { "@torch.no_grad()" })
  wait("the finding in the helper", function()
    return #codes(helper) == 1
  end)
  seen.helper = codes(helper)
  vim.lsp.stop_client(client)
  wait("the server's end", function()
    return exited ~= nil
  end)
  seen.status = exited
end)
if not ok then
  seen.problem = tostring(problem)
end
local file = assert(io.open(vim.env.GRADLINT_SEEN, "w"))
file:write(vim.json and vim.json.encode(seen) or vim.fn.json_encode(seen))
file:close()
vim.cmd("qall!")
