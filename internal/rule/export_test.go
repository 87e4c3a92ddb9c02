package rule

// Break makes a rule panic at its next match.
func (e *Engine) Break(name string) {
	e.Plan(name).Title = nil
}

// Tries is how often a message waits for actions that fail.
const Tries = maxTries
